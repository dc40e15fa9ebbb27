package docker_test

import (
	"fmt"
	"testing"

	"sluice/worker/docker"
)

// TestParkedMore: a class has few containers that wait until an action finds
// none, and never more than the setting says.
func TestParkedMore(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	y.Runtime = open(t, func(c *docker.Config) { c.Parked, c.Dir = 3, y.dir })
	start := func(name string, parked bool) {
		t.Helper()
		box, err := y.Start(t.Context(), y.spec(t, name, "true"))
		if err != nil || docker.Parked(box) != parked {
			t.Fatalf("Start = %v, in advance: %t, want %t", err, docker.Parked(box), parked)
		}
		if err := box.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	waiting := func(want int) {
		t.Helper()
		y.Refill(y.spec(t, "", "true"))
		y.Settle()
		if n := y.Idle(); n != want {
			t.Fatalf("%d containers wait, want %d", n, want)
		}
	}
	start("first", false)
	waiting(2)

	busy := y.Hurry() // nothing is made up for
	start("second", true)
	start("third", true)
	start("none-was-left", false)
	start("nor-now", false)
	busy()
	waiting(3)
	start("more", true)
	waiting(3)

	y.Shrink(y.spec(t, "", "true"))
	y.Settle()
	if n, left := y.Idle(), y.left(t); n != 2 || len(left) != 2 {
		t.Errorf("%d containers wait of %d, want 2", n, len(left))
	}
	start("few", true)
	waiting(2)
}

// TestParkedGivesWay: nothing is made in advance while an action waits for its
// own container, however many of those there are, and a drain does not wait.
func TestParkedGivesWay(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	one, two := y.Hurry(), y.Hurry()
	spec := y.spec(t, "first", "true")
	box, err := y.Start(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	y.Refill(spec)
	one()
	settled := make(chan struct{})
	go func() {
		y.Settle()
		close(settled)
	}()
	// An action takes as long as it takes; what is made meanwhile is its own.
	for i := range 2 {
		other, err := y.Start(t.Context(), y.spec(t, fmt.Sprint("other", i), "true"))
		if err != nil || docker.Parked(other) {
			t.Fatalf("Start = %v, in advance: %t", err, docker.Parked(other))
		}
		if err := other.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	select {
	case <-settled:
		t.Error("a container was made in advance while an action waited for its own")
	default:
	}
	if err := box.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	two()
	<-settled
	if y.Idle() != 1 {
		t.Errorf("%d containers wait once no action does, want 1", y.Idle())
	}

	three := y.Hurry()
	defer three()
	if box, err = y.Start(t.Context(), y.spec(t, "last", "true")); err != nil || !docker.Parked(box) {
		t.Fatalf("Start = %v, in advance: %t", err, docker.Parked(box))
	}
	if err := box.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	y.Drain()
	if left := y.left(t); len(left) != 0 {
		t.Errorf("after the drain there are %v", left)
	}
}
