package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/messages"
)

func draw(seed uint64) ([]*study, []blow) {
	return drawStudies(rand.New(rand.NewPCG(seed, 1)), 100), drawStorm(rand.New(rand.NewPCG(seed, 2)), time.Minute)
}

// TestSeed: a seed is all that studies and faults depend on.
func TestSeed(t *testing.T) {
	studies, blows := draw(7)
	again, repeated := draw(7)
	if !reflect.DeepEqual(studies, again) || !reflect.DeepEqual(blows, repeated) {
		t.Error("the same seed draws something else")
	}
	other, others := draw(8)
	if reflect.DeepEqual(studies, other) || reflect.DeepEqual(blows, others) {
		t.Error("another seed draws the same")
	}
	if len(blows) < 20 {
		t.Errorf("%d faults in a minute; the storm is a breeze", len(blows))
	}
}

// TestFaults: each thing that can happen at a fault point is drawn.
func TestFaults(t *testing.T) {
	for _, command := range []string{"planner", "worker", "persister"} {
		for _, what := range []string{"=die@", "=cut:", "=hang@", ":die", ":cut:", ":hang"} {
			drawn := false
			for seed := range uint64(200) {
				drawn = drawn || strings.Contains(drawFaults(command, seed, 0.02), what)
			}
			if !drawn {
				t.Errorf("%s: %s is never drawn", command, what)
			}
		}
	}
}

// TestToldOnce: an end may be told twice by one message, and not by two.
func TestToldOnce(t *testing.T) {
	if err := toldOnce([]told{{id: "job/1"}, {id: "job/1"}}); err != nil {
		t.Error(err)
	}
	if err := toldOnce([]told{{id: "job/1"}, {id: "job/2"}}); err == nil {
		t.Error("an end that was told by two messages is taken for right")
	}
}

// TestToll: what strikes a worker, its engine or a server may cost attempts, and
// nothing else.
func TestToll(t *testing.T) {
	f := &fleet{dir: t.TempDir(), struck: map[string]int{}}
	for _, name := range []string{"worker-0", "worker-2", "planner-1", "persister-0", "nats-1"} {
		f.strikes(name)
	}
	for at, text := range map[string]string{
		"worker-0.faults/worker.after-take.hit": "1 die\n2 cut\n", "worker-1.faults/worker.after-take.hit": "3 die\n", "planner-0.faults/planner.after-lead.hit": "4 die\n",
	} {
		path := f.path("logs", at)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got := f.toll()
	if want := slots * (2 + 3 + 1); got.mostLost() != want || got.names != 2 {
		t.Errorf("%d attempts can be lost to %s, want %d and 2 fault points", got.mostLost(), got, want)
	}
}

// TestStudies: a study's ends do not depend on who comes first.
func TestStudies(t *testing.T) {
	kinds, ends := map[string]bool{}, map[messages.Code]bool{}
	for seed := range uint64(50) {
		studies, _ := draw(seed)
		for _, s := range studies {
			of := map[string]*request{}
			for _, wave := range s.waves {
				for _, q := range wave {
					for _, a := range q.actions {
						kinds[a.kind], ends[a.ends] = true, true
						if s.racy && (a.kind == gate || len(a.needs) > 0) {
							t.Errorf("seed %d: racy %s of kind %s needs %v", seed, a.name, a.kind, a.needs)
						}
						for _, need := range a.needs {
							if n := s.action(need); n.ends != messages.Success && (a.kind == gate || of[need] != q) {
								t.Errorf("seed %d: %s, a %s, needs %s of another request, which ends as %s", seed, a.name, a.kind, need, n.ends)
							}
						}
						of[a.name] = q
					}
				}
			}
		}
	}
	if len(kinds) != 8 || len(ends) != 5 {
		t.Errorf("kinds %v, ends %v; some never occur", kinds, ends)
	}
}

// TestContent: what differs by right is left out, and nothing else.
func TestContent(t *testing.T) {
	for _, tc := range []struct {
		name, a, b string
		same       bool
	}{
		{"times of a manifest", `{"outputs":{"a":{"timestamp":1.5,"size":3}}}`, `{"outputs":{"a":{"timestamp":2.5,"size":3}}}`, true},
		{"a size in a manifest", `{"outputs":{"a":{"timestamp":1.5,"size":3}}}`, `{"outputs":{"a":{"timestamp":1.5,"size":4}}}`, false},
		{"samples in a manifest", `{"outputs":{},"job_metrics":{}}`, `{"outputs":{},"job_metrics":{"cpu_mean":3}}`, true},
		{"a line of a log doubled", "2026-01-01T00:00:00Z x\n", "2026-01-01T00:00:00Z x\n2026-01-01T00:00:01Z x\n", false},
		{"a log's time", "2026-01-01T00:00:00Z x\ncreated_at: 1\n", "2026-01-02T01:00:00.123Z x\ncreated_at: 2\n", true},
		{"a large file", strings.Repeat("a", 5000), strings.Repeat("a", 4999) + "b", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			name := "x.csv"
			switch {
			case strings.Contains(tc.name, "manifest"):
				name = "manifest.json"
			case strings.Contains(tc.name, "log"):
				name = "logs.txt"
			}
			var texts [2]string
			for i, text := range []string{tc.a, tc.b} {
				dir := t.TempDir()
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				entries, err := os.ReadDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				if texts[i], err = content(path, entries[0]); err != nil {
					t.Fatal(err)
				}
			}
			err := compare(&ending{map[string]string{"x": texts[0]}}, &ending{map[string]string{"x": texts[1]}})
			if (err == nil) != tc.same {
				t.Errorf("compare = %v", err)
			}
		})
	}
	calm := &ending{map[string]string{"a": ""}}
	storm := &ending{map[string]string{"b": ""}}
	if err := compare(calm, storm); err == nil || !strings.Contains(err.Error(), "-a") || !strings.Contains(err.Error(), "+b") {
		t.Errorf("compare = %v", err)
	}
}

// TestLink: a link that is cut breaks, one that is stalled keeps what is sent.
func TestLink(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
	l, err := newLink([]string{echo.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	ask := func(c net.Conn, wait time.Duration) error {
		if _, err := fmt.Fprint(c, "x"); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(wait))
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	dial := func() net.Conn {
		c, err := net.Dial("tcp", l.addrs[0])
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial()
	if err := ask(c, time.Minute); err != nil {
		t.Fatal(err)
	}
	l.stall()
	if err := ask(c, 50*time.Millisecond); err == nil {
		t.Error("a stalled link answered")
	}
	l.mend()
	_ = c.SetReadDeadline(time.Time{})
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("what was sent over a stalled link is lost: %v", err)
	}
	l.cut()
	if err := ask(c, time.Minute); err == nil {
		t.Error("a cut link answered")
	}
	if err := ask(dial(), time.Minute); err == nil {
		t.Error("a cut link took a new connection")
	}
	l.mend()
	if err := ask(dial(), time.Minute); err != nil {
		t.Errorf("a mended link: %v", err)
	}
}
