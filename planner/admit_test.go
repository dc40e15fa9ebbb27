package planner

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/messages"
)

var noon = time.Date(2026, 11, 2, 12, 0, 0, 0, time.UTC)

func candidate(name, workspace, pool string, weight float64, age int) *Candidate {
	return &Candidate{Job: messages.JobID(name), Workspace: workspace, Pool: pool, Database: pool == "db", Weight: weight, Created: noon.Add(time.Duration(age) * time.Second)}
}

func names(list []*Candidate) []string {
	var out []string
	for _, c := range list {
		out = append(out, string(c.Job))
	}
	return out
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	pool := func(total, inFlight, limit float64) Pool {
		return Pool{Workers: 1, Total: total, Largest: total, InFlight: inFlight, Limit: limit}
	}
	for _, c := range []struct {
		name     string
		ready    []*Candidate
		pools    map[string]Pool
		inFlight map[string]float64
		window   float64
		want     []string
	}{
		{
			name:  "oldest first",
			ready: []*Candidate{candidate("c", "w", "default", 1, 3), candidate("a", "w", "default", 1, 1), candidate("b", "w", "default", 1, 2)},
			pools: map[string]Pool{"default": pool(2, 0, 0)}, window: 1, want: []string{"a", "b"},
		},
		{
			name:  "twice the slots are dispatched",
			ready: []*Candidate{candidate("a", "w", "default", 1, 1), candidate("b", "w", "default", 1, 2), candidate("c", "w", "default", 1, 3)},
			pools: map[string]Pool{"default": pool(1, 0, 0)}, window: 2, want: []string{"a", "b"},
		},
		{
			name:  "but never above the limit",
			ready: []*Candidate{candidate("a", "w", "db", 1, 1), candidate("b", "w", "db", 1, 2), candidate("c", "w", "db", 1, 3)},
			pools: map[string]Pool{"db": pool(10, 1, 2)}, window: 2, want: []string{"a"},
		},
		{
			name: "the workspace with least in flight is next",
			ready: []*Candidate{
				candidate("a1", "a", "default", 1, 1), candidate("a2", "a", "default", 1, 2), candidate("b1", "b", "default", 1, 8), candidate("c1", "c", "default", 1, 9),
			},
			inFlight: map[string]float64{"b": 1.5},
			pools:    map[string]Pool{"default": pool(3, 0, 0)}, window: 1, want: []string{"a1", "c1", "a2"},
		},
		{
			name:  "a database job counts in the other pool, too",
			ready: []*Candidate{candidate("a", "a", "db", 1, 1), candidate("a1", "a", "default", 1, 2), candidate("b1", "b", "default", 1, 9)},
			pools: map[string]Pool{"default": pool(1, 0, 0), "db": pool(1, 0, 0)}, window: 1, want: []string{"a", "b1"},
		},
		{
			name:  "a heavy job that is next keeps the room for itself",
			ready: []*Candidate{candidate("heavy", "w", "default", 3, 1), candidate("light", "w", "default", 1, 2)},
			pools: map[string]Pool{"default": pool(4, 2, 0)}, window: 1,
		},
		{
			name:  "one that fits no worker does not",
			ready: []*Candidate{candidate("heavy", "w", "default", 5, 1), candidate("light", "w", "default", 1, 2)},
			pools: map[string]Pool{"default": pool(4, 2, 0)}, window: 1, want: []string{"light"},
		},
		{
			name:  "nor one above the limit",
			ready: []*Candidate{candidate("heavy", "w", "default", 3, 1), candidate("light", "w", "default", 1, 2)},
			pools: map[string]Pool{"default": pool(8, 0, 2)}, window: 1, want: []string{"light"},
		},
		{
			name:  "a full pool does not hold up another",
			ready: []*Candidate{candidate("db", "w", "db", 1, 1), candidate("cpu", "w", "default", 1, 2)},
			pools: map[string]Pool{"db": pool(1, 1, 0), "default": pool(1, 0, 0)}, window: 1, want: []string{"cpu"},
		},
		{
			name:  "no worker",
			ready: []*Candidate{candidate("a", "w", "default", 1, 1)},
			pools: map[string]Pool{"default": {Limit: 4}}, window: 2,
		},
		{
			name:  "weights such as 0.1 add up",
			ready: []*Candidate{candidate("a", "w", "default", 0.1, 1), candidate("b", "w", "default", 0.2, 2), candidate("c", "w", "default", 0.7, 3), candidate("d", "w", "default", 0.1, 4)},
			pools: map[string]Pool{"default": pool(1, 0, 0)}, window: 1, want: []string{"a", "b", "c"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b Backlog
			for _, r := range c.ready {
				b.Add(r)
			}
			if diff := cmp.Diff(c.want, names(Admit(&b, c.pools, c.inFlight, c.window))); diff != "" {
				t.Errorf("started (-want +got):\n%s", diff)
			}
		})
	}
}

// TestAdmitIsPure: deciding twice decides the same, limits hold, and the order
// of arrival does not matter.
func TestAdmitIsPure(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var list []*Candidate
		for i := range rapid.IntRange(0, 40).Draw(rt, "jobs") {
			pool := rapid.SampledFrom([]string{"default", "db"}).Draw(rt, "pool")
			workspace := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "workspace")
			list = append(list, candidate(fmt.Sprint(i), workspace, pool, rapid.SampledFrom([]float64{0.5, 1, 2, 7}).Draw(rt, "weight"), rapid.IntRange(0, 9).Draw(rt, "age")))
		}
		pools := map[string]Pool{}
		for _, name := range []string{"default", "db"} {
			total := rapid.SampledFrom([]float64{0, 1, 4, 9}).Draw(rt, "total")
			pools[name] = Pool{Total: total, Largest: total, InFlight: rapid.SampledFrom([]float64{0, 1, 3}).Draw(rt, "in flight"), Limit: rapid.SampledFrom([]float64{0, 3}).Draw(rt, "limit")}
		}
		var b, again Backlog
		for _, c := range list {
			b.Add(c)
		}
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, c := range list {
			again.Add(c)
		}
		started := Admit(&b, pools, nil, 2)
		if diff := cmp.Diff(names(started), names(Admit(&again, pools, nil, 2))); diff != "" {
			rt.Fatalf("another order of arrival, another decision:\n%s", diff)
		}
		if b.Len() != len(list) {
			rt.Fatalf("the backlog has %d jobs, want %d", b.Len(), len(list))
		}
		sum := map[string]float64{}
		for _, c := range started {
			sum[c.Pool] += c.Weight
			b.Remove(c)
		}
		for name, p := range pools {
			if got, most := sum[name], p.allowed(2)-p.InFlight; got > 0 && got > most+tiny {
				rt.Fatalf("pool %s: %v slots were given, and %v were free", name, got, most)
			}
		}
		rest := 0
		for _, line := range Order(&b, nil) {
			rest += len(line)
		}
		if rest != len(list)-len(started) {
			rt.Fatalf("%d jobs are in line, want %d", rest, len(list)-len(started))
		}
	})
}

// crowd is a backlog of n jobs of one workspace and a few of others.
func crowd(n int) *Backlog {
	var b Backlog
	for i := range n {
		b.Add(candidate(fmt.Sprintf("%06d", i), "crowd", "default", 1, i))
	}
	for i := range 5 {
		b.Add(candidate(fmt.Sprint("few", i), fmt.Sprint("w", i), "default", 1, n+i))
	}
	return &b
}

func TestAdmitFairly(t *testing.T) {
	t.Parallel()
	got := names(Admit(crowd(10_000), map[string]Pool{"default": {Workers: 1, Total: 3, Largest: 3}}, nil, 2))
	if diff := cmp.Diff([]string{"000000", "few0", "few1", "few2", "few3", "few4"}, got); diff != "" {
		t.Errorf("started (-want +got):\n%s", diff)
	}
}

func BenchmarkAdmit(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		backlog := crowd(n)
		pools := map[string]Pool{"default": {Workers: 10, Total: 40, Largest: 4}}
		b.Run(fmt.Sprint("pass-", n), func(b *testing.B) {
			for b.Loop() {
				Admit(backlog, pools, nil, 2)
			}
		})
		b.Run(fmt.Sprint("order-", n), func(b *testing.B) {
			for b.Loop() {
				Order(backlog, nil)
			}
		})
	}
}

func TestWeights(t *testing.T) {
	t.Parallel()
	list, err := ParseWeights("tpp", []byte("; a comment\n[ws]\nbig.* = 4\nbi.* = 2\n\n[default]\ncox-ipw:v\\d+ .* = 3.5\n"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWeights(list)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		backend, workspace, action, run string
		want                            float64
	}{
		{"tpp", "ws", "big_model", "r:v1 x", 4},
		{"tpp", "ws", "bit", "r:v1 x", 2},
		{"tpp", "ws", "a big one", "r:v1 x", 1},
		{"tpp", "ws", "other", "cox-ipw:v2 --x", 3.5},
		{"tpp", "else", "big_model", "cox-ipw:v2 --x", 3.5},
		{"emis", "ws", "big_model", "cox-ipw:v2 --x", 1},
	} {
		if got := w.of(c.backend, c.workspace, c.action, c.run); got != c.want {
			t.Errorf("weight of %+v: got %v, want %v", c, got, c.want)
		}
	}
	_, err = ParseWeights("tpp", []byte("x = 1\n[ws]\nno number\n( = 2\na = -1\nb = x\nc)|(d = 1\n"))
	if got, want := len(messages.Sentences(err)), 6; got != want {
		t.Errorf("got %d problems (%v), want %d", got, err, want)
	}
}

func FuzzParseWeights(f *testing.F) {
	f.Add([]byte("[w]\na.* = 2\n"))
	f.Fuzz(func(t *testing.T, file []byte) {
		list, err := ParseWeights("b", file)
		if err != nil {
			return
		}
		if _, err := newWeights(list); err != nil {
			t.Errorf("parsed, and then: %v", err)
		}
	})
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	if err := DefaultConfig().Check(); err != nil {
		t.Errorf("the default: %v", err)
	}
	bad := Config{Backends: []string{"NO"}, PoolLimits: map[string]float64{"p": 0}, Weights: []Weight{{Pattern: "("}}, LeaderTTL: -1}
	problems := messages.Sentences(bad.Check())
	if len(problems) < 10 {
		t.Errorf("got %d problems, want every one: %q", len(problems), problems)
	}
}
