package docker

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/worker"
)

// TestToll: the counter that the kernel keeps of a container that waited is
// believed, also where the engine says otherwise; the engine's events are asked
// for only where the counter is gone, and not after a success.
func TestToll(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, counter string
		code          int
		want          bool
		asked         int32
	}{
		{name: "a child was killed, and it succeeded", counter: "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", want: true},
		{name: "killed", counter: "low 0\noom 1\noom_kill 2\noom_group_kill 0\n", code: 137, want: true},
		{name: "killed by itself", counter: "oom_kill 0\n", code: 137},
		{name: "nobody counted, and it failed", counter: "", code: 3, asked: 1},
		{name: "nobody counted, and it succeeded", counter: ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			id, at := strings.Repeat("c", 64), time.Now().UTC().Format(time.RFC3339Nano)
			var asked atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
				w.Header().Set("Api-Version", "1.41")
				switch {
				case strings.HasSuffix(q.URL.Path, "/"+id+"/wait"):
					fmt.Fprintf(w, `{"StatusCode":%d}`, tc.code)
				case strings.HasSuffix(q.URL.Path, "/"+id+"/json"):
					fmt.Fprintf(w, `{"Id":%q,"Created":%q,"State":{"Status":"exited","ExitCode":%d,"OOMKilled":false,"StartedAt":%q,"FinishedAt":%q}}`, id, at, tc.code, at, at)
				case strings.HasSuffix(q.URL.Path, "/events"):
					asked.Add(1)
				}
			}))
			t.Cleanup(server.Close)
			r, err := New(Config{Worker: "toll", Host: "tcp://" + server.Listener.Addr().String()})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = r.Close() })
			s := &slot{r: r, id: id, proc: killedProcess(t), oom: fileOf(t, tc.counter)}
			t.Cleanup(s.release)
			box := &box{r: r, id: id, taken: &taken{At: time.Now().UTC()}, slot: s, one: make(chan struct{}, 1)}
			want := worker.Exit{Code: tc.code, OOMKilled: tc.want}
			for range 2 {
				exit, err := box.Wait(t.Context())
				exit.Started, exit.Finished = time.Time{}, time.Time{}
				if err != nil || exit != want || asked.Load() != tc.asked {
					t.Errorf("Wait = %+v, %v, after %d questions, want %+v after %d", exit, err, asked.Load(), want, tc.asked)
				}
			}
		})
	}
}

// killedProcess holds a process that a signal ended: how, the engine is asked.
func killedProcess(t *testing.T) *os.File {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.PidfdOpen(cmd.Process.Pid, unix.PIDFD_NONBLOCK)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if err != nil {
		t.Fatal(err)
	}
	return os.NewFile(uintptr(fd), "a process")
}

func fileOf(t *testing.T, text string) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "counter")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
