// Package runtimetest is what every worker.Runtime must do, as tests.
package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/messages"
	"sluice/worker"
)

// A Setup is a runtime under test.
type Setup struct {
	Runtime worker.Runtime
	Reopen  func(t *testing.T) worker.Runtime // another one for the same worker, as after a restart
	Shell   string                            // an image with a POSIX shell and the usual small programs on its PATH
	Missing string                            // the name of an image that cannot be had
	UID     int                               // whom containers run as; not root
}

// patience is far more than anything here takes: a test that waits for so long
// has failed.
const patience = 90 * time.Second

// Run runs the suite.
func Run(t *testing.T, s Setup) {
	for name, test := range map[string]func(*testing.T, Setup){
		"Image":     testImage,
		"Exits":     testExits,
		"Workspace": testWorkspace,
		"Stop":      testStop,
		"Restart":   testRestart,
		"Logs":      testLogs,
		"Isolation": testIsolation,
		"Limits":    testLimits,
		"Record":    testRecord,
		"Leftovers": testLeftovers,
		"Usage":     testUsage,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, s)
		})
	}
}

// jobs gives each container a job of its own.
var jobs struct {
	sync.Mutex
	n int
}

func newAttempt() worker.Attempt {
	jobs.Lock()
	defer jobs.Unlock()
	jobs.n++
	return worker.Attempt{Job: messages.NewJobID("runtimetest", strings.Repeat("x", jobs.n)+time.Now().String()), Number: 1, Backend: "test"}
}

// spec is a container that runs a shell script.
func (s Setup) spec(t *testing.T, script string) worker.Spec {
	t.Helper()
	dir := t.TempDir()
	if os.Geteuid() == 0 {
		if err := os.Chown(dir, s.UID, s.UID); err != nil {
			t.Fatal(err)
		}
	}
	digest, err := s.Runtime.Image(within(t), s.Shell)
	if err != nil {
		t.Fatal(err)
	}
	return worker.Spec{
		Attempt: newAttempt(), Workspace: "ws", Action: "act", Image: s.Shell, Digest: digest, Args: []string{"sh", "-c", script}, Dir: dir, UID: s.UID, GID: s.UID,
		Env:    []messages.EnvVar{{Name: "HOME", Value: "/tmp"}},
		Limits: messages.Limits{CPUs: 1, Memory: 64 << 20, Processes: 64, Disk: 64 << 20, Time: time.Minute},
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// start starts a container, which is removed after the test.
func (s Setup) start(t *testing.T, spec worker.Spec) worker.Container {
	t.Helper()
	box, err := s.Runtime.Start(within(t), spec)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := box.Remove(ctx); err != nil {
			t.Errorf("Remove: %v", err)
		}
	})
	return box
}

// run runs a script to its end and returns that and its log, times left out.
func (s Setup) run(t *testing.T, spec worker.Spec) (worker.Exit, string) {
	t.Helper()
	box := s.start(t, spec)
	exit, err := box.Wait(within(t))
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return exit, s.log(t, box)
}

func (s Setup) log(t *testing.T, box worker.Container) string {
	t.Helper()
	var buf bytes.Buffer
	if err := box.Logs(within(t), &buf); err != nil {
		t.Fatalf("Logs: %v", err)
	}
	return Unstamp(buf.String())
}

// Unstamp takes the time off each line of a log.
func Unstamp(log string) string {
	var out strings.Builder
	for line := range strings.Lines(log) {
		if stamp, rest, ok := strings.Cut(line, " "); ok {
			if _, err := time.Parse(time.RFC3339Nano, stamp); err == nil {
				line = rest
			}
		}
		out.WriteString(line)
	}
	return out.String()
}

func testImage(t *testing.T, s Setup) {
	digest, err := s.Runtime.Image(within(t), s.Shell)
	if err != nil || digest == "" {
		t.Errorf("Image(%q) = %q, %v, want a digest", s.Shell, digest, err)
	}
	for _, name := range []string{s.Missing, "NOT/A/Name", "-", "a b:c"} {
		_, err := s.Runtime.Image(within(t), name)
		var failure *messages.Failure
		if !errors.As(err, &failure) || failure.Code != messages.JobError || !strings.Contains(failure.Detail, "not available") {
			t.Errorf("Image(%q) error = %v, want a Failure that says it is not available", name, err)
		}
	}
}

func testExits(t *testing.T, s Setup) {
	for _, tc := range []struct {
		name, script string
		code         int
		oom          bool
	}{
		{"success", "exit 0", 0, false},
		{"failure", "exit 7", 7, false},
		{"no such program", "exec /no/such/program", 127, false},
		{"killed by itself", "kill -9 $$", 137, false},
		{"out of memory", "tail /dev/zero", 137, true},
		{"a child out of memory", "tail /dev/zero; exit 3", 3, true},
		{"ends at once, many times over", ":", 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			exit, log := s.run(t, s.spec(t, tc.script))
			if exit.Code != tc.code || exit.OOMKilled != tc.oom {
				t.Errorf("exit = %+v, want code %d, out of memory %t; log:\n%s", exit, tc.code, tc.oom, log)
			}
			if exit.Started.IsZero() || exit.Finished.Before(exit.Started) {
				t.Errorf("times = %v to %v, want a span", exit.Started, exit.Finished)
			}
		})
	}
	t.Run("a program that is not there", func(t *testing.T) {
		t.Parallel()
		spec := s.spec(t, "")
		spec.Args = []string{"no-such-program"}
		if exit, log := s.run(t, spec); exit.Code != 127 || !strings.Contains(log, "no-such-program") {
			t.Errorf("exit = %d, log %q, want 127 and the program's name", exit.Code, log)
		}
	})
}

func testWorkspace(t *testing.T, s Setup) {
	spec := s.spec(t, `pwd; cat in; echo "$0|$1|$VALUE" > out; mkdir d; echo deep > d/f`)
	spec.Args = append(spec.Args, "zero", "a  b;$(id)")
	spec.Env = append(spec.Env, messages.EnvVar{Name: "VALUE", Value: "x=y \"z\"\n$HOME"})
	if err := os.WriteFile(spec.Dir+"/in", []byte("given\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	exit, log := s.run(t, spec)
	if exit.Code != 0 || log != "/workspace\ngiven\n" {
		t.Errorf("exit %d, log %q, want 0 and the working directory and the file", exit.Code, log)
	}
	got, err := os.ReadFile(spec.Dir + "/out")
	if want := "zero|a  b;$(id)|x=y \"z\"\n$HOME\n"; err != nil || string(got) != want {
		t.Errorf("out = %q, %v, want %q", got, err, want)
	}
}

func testStop(t *testing.T, s Setup) {
	for _, tc := range []struct {
		name, script string
		grace        time.Duration
		code         int
	}{
		{"in order", `trap 'echo bye; exit 5' TERM; echo up; while :; do sleep 0.1; done`, time.Minute, 5},
		{"without a trap", `echo up; exec sleep 1000`, time.Minute, 143},
		{"deaf", `trap '' TERM; echo up; while :; do sleep 0.1; done`, time.Second, 137},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			box := s.start(t, s.spec(t, tc.script))
			follow(t, box, "up")
			if err := box.Stop(within(t), tc.grace); err != nil {
				t.Fatalf("Stop: %v", err)
			}
			exit, err := box.Wait(within(t))
			if err != nil || exit.Code != tc.code || exit.OOMKilled {
				t.Errorf("Wait = %+v, %v, want code %d", exit, err, tc.code)
			}
			if err := box.Stop(within(t), time.Second); err != nil {
				t.Errorf("Stop of a container that has ended: %v", err)
			}
			if again, err := box.Wait(within(t)); err != nil || again != exit {
				t.Errorf("Wait again = %+v, %v, want the same: %+v", again, err, exit)
			}
		})
	}
	t.Run("a wait is broken off", func(t *testing.T) {
		t.Parallel()
		box := s.start(t, s.spec(t, "sleep 1000"))
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("enough")
		cancel(cause)
		if _, err := box.Wait(ctx); !errors.Is(err, cause) {
			t.Errorf("Wait error = %v, want the context's cause", err)
		}
	})
}

// follow waits until a log has a line.
func follow(t *testing.T, box worker.Container, want string) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	seen := make(chan struct{})
	go func() { _ = box.Logs(ctx, &watcher{want: want, seen: seen}) }()
	select {
	case <-seen:
	case <-ctx.Done():
		t.Fatalf("the log never had %q", want)
	}
}

type watcher struct {
	want string
	all  []byte
	seen chan struct{}
	once sync.Once
}

func (w *watcher) Write(b []byte) (int, error) {
	w.all = append(w.all, b...)
	if bytes.Contains(w.all, []byte(w.want)) {
		w.once.Do(func() { close(w.seen) })
	}
	return len(b), nil
}
