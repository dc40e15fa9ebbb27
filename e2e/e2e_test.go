// Package e2e runs the fleet as its users do: the real binary, real NATS
// servers, git repositories, the real engine, and scripts in testdata that a
// person could have typed.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"sluice/internal/cli"
)

// prefix names the images of these tests, which are removed at the end: another
// run on the same engine removes its own.
var prefix = fmt.Sprintf("sluice-e2e-%d/", os.Getpid())

func TestMain(m *testing.M) {
	testscript.Main(withImages{m}, map[string]func(){"sluice": cli.Main, "api": apiMain})
}

// withImages provides the images, and takes them and what is left away.
type withImages struct{ m *testing.M }

func (w withImages) Run() int {
	if err := images(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: these tests need a Docker Engine:", err)
		return 1
	}
	code := w.m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	if left, err := exec.Command("docker", "ps", "-a", "--filter", "name=sluice-", "--format", "{{.Image}} {{.Names}}").Output(); err != nil || strings.Contains(string(left), prefix) {
		fmt.Fprintf(os.Stderr, "e2e: containers were left behind (%v):\n%s", err, left)
		code = 1
	}
	for _, name := range allImages() {
		if out, err := exec.Command("docker", "image", "rm", "-f", prefix+name).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "e2e: image %s could not be removed: %s", prefix+name, out)
		}
	}
	return code
}

func images() error {
	cmd := exec.Command("../examples/images.sh")
	cmd.Env = append(os.Environ(), "SLUICE_IMAGE_PREFIX="+prefix)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return makeStandIns()
}

func TestScripts(t *testing.T) {
	bin, err := filepath.Abs("../bin")
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"nats", "nats-server"} {
		if _, err := os.Stat(filepath.Join(bin, tool)); err != nil {
			t.Fatalf("%s is not there: run `make tools` first", filepath.Join("bin", tool))
		}
	}
	faults, err := faultsBinary()
	if err != nil {
		t.Fatal(err)
	}
	deploy, err := filepath.Abs("../deploy")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(env *testscript.Env) error {
			// Other users, of which some scripts have several, come by here.
			if err := os.Chmod(filepath.Dir(env.WorkDir), 0o711); err != nil {
				return err
			}
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+bin+string(os.PathListSeparator)+filepath.Dir(faults))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("DEPLOY", deploy)
			env.Setenv("SLUICE_IMAGE_PREFIX", prefix)
			env.Setenv("SLUICE_NO_PULL", "true")
			env.Setenv("ALLOW_LOCAL_GIT_REPOS", "true")
			env.Setenv("BACKEND", "test")
			env.Setenv("BACKENDS", "test")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"repo": makeRepo, "await": await, "setenv": setenv, "eventually": eventually, "network": makeNetwork, "database": makeDatabase,
		},
	})
}

// makeRepo makes a git repository of a folder, or commits what changed in it,
// and sets COMMIT: repo DIR
func makeRepo(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: repo DIR")
	}
	dir := ts.MkAbs(args[0])
	git := func(args ...string) string {
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=e2e", "-c", "user.email=e2e@example.org", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			ts.Fatalf("git %v: %v\n%s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	git("add", "-A")
	git("commit", "-q", "--allow-empty", "-m", "study")
	ts.Setenv("COMMIT", git("rev-parse", "HEAD"))
}

// await waits until a file is there: await FILE
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	poll(ts, func() error { _, err := os.Stat(ts.MkAbs(args[0])); return err })
}

// setenv sets a variable to what a file holds: setenv NAME FILE
func setenv(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: setenv NAME FILE")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
}

// eventually runs a command until its output has a text: eventually TEXT COMMAND ARG…
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: eventually TEXT COMMAND ARG…")
	}
	poll(ts, func() error {
		err := ts.Exec(args[1], args[2:]...)
		out := ts.ReadFile("stdout") + ts.ReadFile("stderr")
		if strings.Contains(out, args[0]) == neg {
			return errors.Join(err, fmt.Errorf("output: %s", out))
		}
		return nil
	})
}

// poll tries until it works, at most for five minutes: how long another
// process takes is not ours to know.
func poll(ts *testscript.TestScript, try func() error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			ts.Fatalf("gave up waiting: %v", err)
		case <-tick.C:
		}
	}
}
