package docker_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/docker"
	"sluice/worker/runtimetest"
)

// prefix makes images and containers of this process's tests its own.
var prefix = fmt.Sprintf("sluice-test-%d", os.Getpid())

// shared is the folder of the worker of these tests: a runtime that is opened
// again, as after a restart, has the same.
var shared string

func TestMain(m *testing.M) {
	os.Exit(testMain(m))
}

func testMain(m *testing.M) int {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err == nil {
		err = importShell(ctx, cli)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "these tests need a Docker Engine and busybox (apt-get install docker.io busybox-static): %v\n", err)
		return 1
	}
	if shared, err = os.MkdirTemp("", "sluice-test-"); err == nil {
		defer os.RemoveAll(shared)
		err = nameShared()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := clean(ctx, cli); err != nil {
		fmt.Fprintf(os.Stderr, "what the tests left could not be removed: %v\n", err)
		return 1
	}
	_ = cli.Close()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

// nameShared gives the shared folder its id, which is made with its first use:
// tests that run side by side would make it twice.
func nameShared() error {
	r, err := docker.New(docker.DefaultConfig(prefix, shared))
	if err != nil {
		return err
	}
	return r.Close()
}

// importShell makes an image of busybox and nothing else.
func importShell(ctx context.Context, cli *client.Client) error {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	applets, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return err
	}
	var root bytes.Buffer
	w := tar.NewWriter(&root)
	add := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		if err == nil {
			err = w.WriteHeader(&h)
		}
		if err == nil {
			_, err = w.Write(data)
		}
	}
	for _, dir := range []string{"bin/", "etc/", "tmp/", "proc/", "sys/", "dev/", "workspace/"} {
		add(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o777}, nil)
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, program)
	for applet := range bytes.FieldsSeq(applets) {
		if string(applet) == "busybox" {
			continue
		}
		add(tar.Header{Name: "bin/" + string(applet), Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
	}
	if err != nil || w.Close() != nil {
		return fmt.Errorf("make an image: %w", err)
	}
	answer, err := cli.ImageImport(ctx, image.ImportSource{Source: &root, SourceName: "-"}, prefix+"/sh:v1", image.ImportOptions{Changes: []string{"ENV PATH=/bin"}})
	if err != nil {
		return err
	}
	defer answer.Close()
	_, err = io.Copy(io.Discard, answer)
	return err
}

func clean(ctx context.Context, cli *client.Client) error {
	list, err := cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "sluice.worker="+prefix))})
	if err != nil {
		return err
	}
	for _, c := range list {
		if err := cli.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true}); err != nil {
			return err
		}
	}
	if len(list) > 0 {
		return fmt.Errorf("%d containers were left behind by the tests", len(list))
	}
	_, err = cli.ImageRemove(ctx, prefix+"/sh:v1", image.RemoveOptions{Force: true})
	return err
}

func open(t *testing.T, change func(*docker.Config)) *docker.Runtime {
	t.Helper()
	cfg := docker.DefaultConfig(prefix, shared)
	cfg.ImagePrefix, cfg.Pull, cfg.Log = prefix+"/", false, zerolog.New(zerolog.NewTestWriter(t))
	if change != nil {
		change(&cfg)
	}
	r, err := docker.New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return r
}

// TestRuntime runs the conformance suite on the engine of this machine.
func TestRuntime(t *testing.T) {
	r := open(t, nil)
	if err := r.Check(t.Context()); err != nil {
		t.Fatalf("Check: %v", err)
	}
	runtimetest.Run(t, runtimetest.Setup{
		Runtime: r, Reopen: func(t *testing.T) worker.Runtime { return open(t, nil) },
		Shell: "sh:v1", Missing: "no-such-image:v1", UID: 10000,
	})
}

// alwaysParked gives each attempt a container that was started in advance.
type alwaysParked struct{ *docker.Runtime }

func (r alwaysParked) Start(ctx context.Context, spec worker.Spec) (worker.Container, error) {
	return r.StartParked(ctx, spec)
}

// TestRuntimeParked runs the same suite with containers that were started in
// advance.
func TestRuntimeParked(t *testing.T) {
	park := func(c *docker.Config) { c.Parked = 1 }
	r := open(t, park)
	runtimetest.Run(t, runtimetest.Setup{
		Runtime: alwaysParked{r}, Reopen: func(t *testing.T) worker.Runtime { return open(t, park) },
		Shell: "sh:v1", Missing: "no-such-image:v1", UID: 10000,
	})
}

// TestTwoFleets: workers of one name on one engine leave each other's containers
// alone, even of the same job.
func TestTwoFleets(t *testing.T) {
	t.Parallel()
	other := t.TempDir()
	first, second := open(t, nil), open(t, func(c *docker.Config) { c.Dir = other })
	job := messages.NewJobID("two fleets", prefix)
	for _, r := range []*docker.Runtime{first, second} {
		box := start(t, r, job, t.TempDir(), "sleep 1000")
		t.Cleanup(func() {
			if err := box.Remove(context.WithoutCancel(t.Context())); err != nil {
				t.Error(err)
			}
		})
	}
	if found, err := second.Find(t.Context()); err != nil || len(found) != 1 {
		t.Errorf("Find = %v, %v, want its own container alone", found, err)
	}
	again := open(t, func(c *docker.Config) { c.Dir = other })
	if found, err := again.Find(t.Context()); err != nil || len(found) != 1 {
		t.Errorf("Find after a restart = %v, %v, want the container", found, err)
	}
	if err := os.WriteFile(filepath.Join(other, "instance"), []byte("../x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := docker.New(docker.DefaultConfig(prefix, other)); err == nil || !strings.Contains(err.Error(), "instance") {
		t.Errorf("New with a broken id = %v, want an error that names the file", err)
	}
}
