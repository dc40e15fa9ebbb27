//go:build faults

package fault

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Built reports whether this build has fault points.
const Built = true

// An order is what happens at a point, or at any.
type order struct {
	action string // die, hang, cut or nothing
	cut    time.Duration
	nth    int // 0: every time
}

// orders are what the environment asks for. What it asks for wrongly ends the
// process: a test that waits for a fault must not wait in vain.
var orders = func() *table {
	t, err := parse(os.Getenv("SLUICE_FAULT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "SLUICE_FAULT:", err)
		os.Exit(2)
	}
	t.dir = os.Getenv("SLUICE_FAULT_DIR")
	return t
}()

type table struct {
	dir    string
	orders map[string]order
	any    *order // with the probability
	chance float64

	mu      sync.Mutex
	random  *rand.Rand
	reached map[string]int
	cut     []func(time.Duration)
}

func parse(text string) (*table, error) {
	t := &table{orders: map[string]order{}, reached: map[string]int{}}
	rest, random := strings.CutPrefix(text, "random:")
	switch {
	case text == "":
		return t, nil
	case text == "trace":
		t.any, t.chance, t.random = &order{}, 1, rand.New(rand.NewPCG(0, 0))
		return t, nil
	case random:
		return t, t.parseRandom(rest)
	}
	for part := range strings.SplitSeq(text, ",") {
		name, what, ok := strings.Cut(part, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not point=action", part)
		}
		if !known(name) {
			return nil, fmt.Errorf("there is no fault point %q", name)
		}
		what, nth, counted := strings.Cut(what, "@")
		o, err := parseAction(what)
		if err != nil {
			return nil, err
		}
		o.nth = 1
		if counted {
			if o.nth, err = strconv.Atoi(nth); err != nil || o.nth < 1 {
				return nil, fmt.Errorf("%q: %q is not a count", part, nth)
			}
		}
		t.orders[name] = o
	}
	return t, nil
}

// parseRandom reads SEED:PROBABILITY[:action].
func (t *table) parseRandom(text string) error {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) < 2 {
		return fmt.Errorf("%q is not SEED:PROBABILITY", text)
	}
	seed, err := strconv.ParseUint(parts[0], 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a seed", parts[0])
	}
	if t.chance, err = strconv.ParseFloat(parts[1], 64); err != nil || !(t.chance >= 0 && t.chance <= 1) {
		return fmt.Errorf("%q is not a probability", parts[1])
	}
	what := "die"
	if len(parts) == 3 {
		what = parts[2]
	}
	o, err := parseAction(what)
	if err != nil {
		return err
	}
	t.any, t.random = &o, rand.New(rand.NewPCG(seed, seed))
	return nil
}

func parseAction(text string) (order, error) {
	action, duration, timed := strings.Cut(text, ":")
	o := order{action: action, cut: 3 * time.Second}
	var err error
	if timed {
		o.cut, err = time.ParseDuration(duration)
	}
	switch {
	case action != "die" && action != "hang" && action != "cut":
		err = fmt.Errorf("%q is not die, hang or cut", action)
	case timed && action != "cut":
		err = fmt.Errorf("%q: only cut takes a time", text)
	}
	return o, err
}

// known reports whether a point is in the table.
func known(name string) bool {
	for _, p := range Points {
		if p.Name == name {
			return true
		}
	}
	return false
}

// At marks a fault point, and does what the environment asks for there.
func At(point string) {
	switch o := orders.next(point); o.action {
	case "die":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "hang":
		orders.hang(point)
	case "cut":
		orders.mu.Lock()
		cut := orders.cut
		orders.mu.Unlock()
		for _, f := range cut {
			f(o.cut)
		}
	}
}

// OnCut takes the function that loses the connection to NATS for a time.
func OnCut(cut func(time.Duration)) {
	orders.mu.Lock()
	defer orders.mu.Unlock()
	orders.cut = append(orders.cut, cut)
}

// next counts a point, and returns what happens there now.
func (t *table) next(point string) order {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reached[point]++
	o, given := t.orders[point]
	switch {
	case given && t.reached[point] == o.nth:
	case t.any != nil && t.random.Float64()*float64(t.weight(point)) < t.chance:
		o = *t.any
	default:
		return order{}
	}
	t.note(point, o.action)
	return o
}

// weight makes a point that is reached often no likelier than a rare one: the
// probability is that of the first time, and a half of it of the second.
func (t *table) weight(point string) int {
	if t.any.action == "" {
		return 1
	}
	return t.reached[point]
}

// note says what happens, on the standard error and in a file that a test can
// wait for.
func (t *table) note(point, action string) {
	if action != "" {
		fmt.Fprintf(os.Stderr, "fault: process %d: %s at %s\n", os.Getpid(), action, point)
	}
	if t.dir == "" {
		return
	}
	f, err := os.OpenFile(filepath.Join(t.dir, point+".hit"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d %s\n", os.Getpid(), action)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "SLUICE_FAULT_DIR:", err)
		os.Exit(2)
	}
}

// maxHang ends a process whose test has forgotten it.
const maxHang = 2 * time.Minute

// hang waits for a test's word. It looks often: nobody but a test waits here.
func (t *table) hang(point string) {
	for began := time.Now(); ; {
		if time.Since(began) > maxHang {
			fmt.Fprintf(os.Stderr, "fault: process %d hung at %s for %s, and no test has let it go on\n", os.Getpid(), point, maxHang)
			os.Exit(2)
		}
		_, err := os.Stat(filepath.Join(t.dir, point+".go"))
		if !errors.Is(err, fs.ErrNotExist) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}
