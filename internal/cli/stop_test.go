package cli

import (
	"bytes"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/jetstream/jetstreamtest"
)

// A watched writer tells when it has been given a text.
type watched struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	text string
	seen chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.buf.String(), w.text)
	n, err := w.buf.Write(p)
	if !before && strings.Contains(w.buf.String(), w.text) {
		close(w.seen)
	}
	return n, err
}

// TestStopWhileStarting: a service that is told to stop while it waits for what
// it needs ends as one that has worked.
func TestStopWhileStarting(t *testing.T) {
	dir := t.TempDir()
	silent, err := net.Listen("unix", filepath.Join(dir, "engine.sock")) // an engine that hangs
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	asked := make(chan struct{})
	go func() {
		for n := 0; ; n++ {
			if _, err := silent.Accept(); err != nil { // open until the test ends
				return
			}
			if n == 0 {
				close(asked)
			}
		}
	}()
	none := "nats://127.0.0.1:1"
	folders := []string{"--high", filepath.Join(dir, "high"), "--staging", filepath.Join(dir, "staging")}
	persister := append([]string{"persister", "--backend", "test", "--medium", filepath.Join(dir, "medium")}, folders...)
	worker := append([]string{"worker", "--backend", "test", "--state", filepath.Join(dir, "worker")}, folders...)
	for _, tc := range []struct {
		name string
		nats string
		args []string
		when <-chan struct{} // nil: when it says that it waits for NATS
	}{
		{"planner without a server", none, []string{"planner", "--mirrors", filepath.Join(dir, "mirrors")}, nil},
		{"worker without a server", none, worker, nil},
		{"persister without a server", none, persister, nil},
		{"worker whose engine hangs", jetstreamtest.Server(t).URL(), worker, asked},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("DOCKER_HOST", "unix://"+silent.Addr().String())
			stderr := &watched{text: "waiting for it", seen: make(chan struct{})}
			ended := make(chan int, 1)
			go func() {
				ended <- run(append([]string{"--log-level=info"}, append(tc.args, "--nats", tc.nats)...), strings.NewReader(""), &bytes.Buffer{}, stderr)
			}()
			when := tc.when
			if when == nil {
				when = stderr.seen
			}
			select {
			case <-when:
			case code := <-ended:
				t.Fatalf("it ended with %d before it was told to: %s", code, stderr.buf.String())
			}
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case code := <-ended:
				if code != ExitOK {
					t.Errorf("exit code %d, want 0: %s", code, stderr.buf.String())
				}
			case <-time.After(3 * time.Minute):
				t.Fatal("it did not stop")
			}
		})
	}
}

// TestTopologyWaits: a server that does not answer is waited for as long as was
// said, and not in silence.
func TestTopologyWaits(t *testing.T) {
	code, _, stderr := invoke("", "topology", "--apply", "--wait", "1s", "--nats", "nats://127.0.0.1:1")
	if code != ExitTimeout || !strings.Contains(stderr, "waiting for it") || !strings.Contains(stderr, "within 1s (--wait)") {
		t.Errorf("exit code %d, want %d; stderr: %s", code, ExitTimeout, stderr)
	}
}
