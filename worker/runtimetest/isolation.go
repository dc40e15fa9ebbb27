package runtimetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/messages"
	"sluice/worker"
)

// find returns the container of an attempt, as a runtime sees it after a
// restart.
func find(t *testing.T, r worker.Runtime, a worker.Attempt) worker.Container {
	t.Helper()
	found, err := r.Find(within(t))
	if err != nil {
		t.Fatalf("Find: %v", err)
	}
	i := slices.IndexFunc(found, func(c worker.Container) bool { return c.Attempt() == a })
	if i < 0 {
		return nil
	}
	return found[i]
}

func testRestart(t *testing.T, s Setup) {
	t.Run("running", func(t *testing.T) {
		t.Parallel()
		spec := s.spec(t, "echo before; while ! [ -e go ]; do sleep 0.1; done; echo after; exit 9")
		box := s.start(t, spec)
		follow(t, box, "before")
		again := find(t, s.Reopen(t), spec.Attempt)
		if again == nil {
			t.Fatal("the container is not found after a restart")
		}
		if err := os.WriteFile(spec.Dir+"/go", nil, 0o644); err != nil {
			t.Fatal(err)
		}
		exit, err := again.Wait(within(t))
		if err != nil || exit.Code != 9 {
			t.Errorf("Wait = %+v, %v, want code 9", exit, err)
		}
		if got, want := s.log(t, again), "before\nafter\n"; got != want {
			t.Errorf("log = %q, want %q", got, want)
		}
	})
	t.Run("ended meanwhile", func(t *testing.T) {
		t.Parallel()
		spec := s.spec(t, "echo out; echo err >&2; exit 6")
		first, _ := s.run(t, spec)
		again := find(t, s.Reopen(t), spec.Attempt)
		if again == nil {
			t.Fatal("the container is not found after a restart")
		}
		exit, err := again.Wait(within(t))
		if err != nil || exit != first {
			t.Errorf("Wait = %+v, %v, want %+v", exit, err, first)
		}
		if got := s.log(t, again); !strings.Contains(got, "out\n") || !strings.Contains(got, "err\n") {
			t.Errorf("log = %q, want both streams", got)
		}
	})
}

func testLogs(t *testing.T, s Setup) {
	t.Run("many lines", func(t *testing.T) {
		t.Parallel()
		const lines = 100_000
		_, log := s.run(t, s.spec(t, fmt.Sprintf("seq %d", lines)))
		var want strings.Builder
		for i := range lines {
			fmt.Fprintln(&want, i+1)
		}
		if log != want.String() {
			t.Errorf("the log has %d lines, want %d, in order", strings.Count(log, "\n"), lines)
		}
	})
	t.Run("an endless line", func(t *testing.T) {
		t.Parallel()
		const size = 1 << 20
		_, log := s.run(t, s.spec(t, fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", size)))
		if log != strings.Repeat("x", size) {
			t.Errorf("the log has %d bytes, %d of them x, want one line of %d", len(log), strings.Count(log, "x"), size)
		}
	})
	t.Run("bytes that are no text", func(t *testing.T) {
		t.Parallel()
		_, log := s.run(t, s.spec(t, `printf 'a\000\377\033[2Jb\n'`))
		if want := "a\x00\xff\x1b[2Jb\n"; !strings.HasPrefix(log, "a\x00") || !strings.HasSuffix(log, "\x1b[2Jb\n") {
			t.Errorf("log = %q, want %q (what is not UTF-8 may be replaced)", log, want)
		}
	})
	t.Run("a reader that stalls", func(t *testing.T) {
		t.Parallel()
		box := s.start(t, s.spec(t, "seq 200000; echo done > finished"))
		r, w := io.Pipe()
		go func() { _ = box.Logs(within(t), w) }() // blocks with its first byte
		exit, err := box.Wait(within(t))
		if err != nil || exit.Code != 0 {
			t.Errorf("Wait = %+v, %v, want success: a slow reader must not hold the container up", exit, err)
		}
		_ = r.Close()
	})
}

// probe prints what a container can see and do, a line each.
const probe = `
id
grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status
echo "net: $(ls /sys/class/net | tr '\n' ' ')"
ping -c 1 -W 1 127.0.0.1 >/dev/null 2>&1; getent hosts localhost 2>/dev/null; grep -q localhost /etc/hosts && echo has localhost
[ -s /etc/resolv.conf ] && echo has resolv.conf
touch /root-file 2>/dev/null && echo wrote to the root
touch /etc/x 2>/dev/null && echo wrote to etc
echo data > /tmp/file && echo wrote to tmp
[ -e /var/run/docker.sock ] || [ -e /run/docker.sock ] && echo sees the engine
mount -t tmpfs none /tmp 2>/dev/null && echo mounted
cat /proc/1/environ >/dev/null 2>&1
ls /dev | tr '\n' ' '
echo
env | sort
`

func testIsolation(t *testing.T, s Setup) {
	if err := os.Setenv("SLUICE_RUNTIMETEST_SECRET", "do-not-leak"); err != nil { //nolint:usetesting // the suite is parallel
		t.Fatal(err)
	}
	spec := s.spec(t, probe)
	exit, log := s.run(t, spec)
	if exit.Code != 0 {
		t.Fatalf("the probe ended with %d:\n%s", exit.Code, log)
	}
	for _, want := range []string{
		fmt.Sprintf("uid=%d gid=%d", s.UID, s.UID), "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "CapBnd:\t0000000000000000", "CapInh:\t0000000000000000",
		"NoNewPrivs:\t1", "Seccomp:\t2", "net: lo \n", "has localhost", "wrote to tmp", "HOME=/tmp",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the container does not see %q", want)
		}
	}
	for _, not := range []string{"wrote to the root", "wrote to etc", "sees the engine", "mounted", "has resolv.conf", "do-not-leak", "SLUICE_", " sda", " vda", " mem "} {
		if strings.Contains(log, not) {
			t.Errorf("the container sees or does %q", not)
		}
	}
	if t.Failed() {
		t.Logf("the probe said:\n%s", log)
	}
}

func testLimits(t *testing.T, s Setup) {
	t.Run("processes", func(t *testing.T) {
		t.Parallel()
		spec := s.spec(t, "i=0; while [ $i -lt 500 ]; do sleep 100 & i=$((i+1)); done; echo all made")
		spec.Limits.Processes = 32
		exit, log := s.run(t, spec)
		if exit.Code == 0 || strings.Contains(log, "all made") || !strings.Contains(log, "fork") {
			t.Errorf("exit %d, log %q, want a fork that fails", exit.Code, log)
		}
	})
	t.Run("size of a file", func(t *testing.T) {
		t.Parallel()
		spec := s.spec(t, "head -c 20000000 /dev/zero > big; ls -l big")
		spec.Limits.Disk = 1 << 20
		_, log := s.run(t, spec)
		if info, err := os.Stat(spec.Dir + "/big"); err != nil || info.Size() > 1<<20 {
			t.Errorf("big = %v, %v, want no more than 1 MiB; log %q", info, err, log)
		}
	})
	t.Run("tmp counts as memory", func(t *testing.T) {
		t.Parallel()
		exit, log := s.run(t, s.spec(t, "head -c 500000000 /dev/zero > /tmp/big && echo all written"))
		if exit.Code == 0 || strings.Contains(log, "all written") {
			t.Errorf("exit %+v, log %q, want /tmp to be bounded", exit, log)
		}
	})
	t.Run("no core files, many descriptors", func(t *testing.T) {
		t.Parallel()
		_, log := s.run(t, s.spec(t, "ulimit -c; ulimit -n"))
		if !strings.HasPrefix(log, "0\n") || len(strings.TrimSpace(log)) < 5 {
			t.Errorf("limits of cores and descriptors = %q, want 0 and more than a thousand", log)
		}
	})
	t.Run("memory that is given is there", func(t *testing.T) {
		t.Parallel()
		exit, log := s.run(t, s.spec(t, "head -c 20000000 /dev/zero | tail -c 20000000 | wc -c"))
		if exit.Code != 0 || exit.OOMKilled || strings.TrimSpace(log) != "20000000" {
			t.Errorf("exit %+v, log %q, want success", exit, log)
		}
	})
}

func testRecord(t *testing.T, s Setup) {
	spec := s.spec(t, "true")
	spec.Env = append(spec.Env,
		messages.EnvVar{Name: "DATABASE_URL", Value: "mssql://user:hunter2@db/full"}, messages.EnvVar{Name: "OPENSAFELY_BACKEND", Value: "tpp"})
	box := s.start(t, spec)
	if _, err := box.Wait(within(t)); err != nil {
		t.Fatal(err)
	}
	record, err := box.Inspect(within(t))
	if err != nil || !json.Valid(record) {
		t.Fatalf("Inspect = %q, %v, want JSON", record, err)
	}
	if bytes.Contains(record, []byte("hunter2")) {
		t.Error("the record has a secret")
	}
	for _, want := range []string{"DATABASE_URL=xxxx-REDACTED-xxxx", "OPENSAFELY_BACKEND=tpp", string(spec.Attempt.Job)} {
		if !bytes.Contains(record, []byte(want)) {
			t.Errorf("the record does not have %q", want)
		}
	}
}

func testLeftovers(t *testing.T, s Setup) {
	spec := s.spec(t, "sleep 1000")
	box := s.start(t, spec)
	if _, err := s.Runtime.Start(within(t), spec); err == nil {
		t.Error("Start of an attempt whose container runs succeeded, want an error: there is one container of an attempt")
	}
	if find(t, s.Runtime, spec.Attempt) == nil {
		t.Error("the container that runs is not found any more")
	}
	began := time.Now()
	if err := box.Remove(within(t)); err != nil {
		t.Errorf("Remove of a container that runs: %v", err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("Remove took %s", took)
	}
	if find(t, s.Runtime, spec.Attempt) != nil {
		t.Error("the container is still found after its removal")
	}
	if err := box.Remove(within(t)); err != nil {
		t.Errorf("Remove of a container that is gone: %v", err)
	}
	if _, err := box.Wait(within(t)); err == nil {
		t.Error("Wait for a container that is gone succeeded")
	}
}
