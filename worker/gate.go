package worker

import (
	"context"
	"sync"
)

// A gate is open while the worker takes actions.
type gate struct {
	mu       sync.Mutex
	draining bool
	unfit    string             // why the worker cannot work
	open     context.Context    // ends when the gate shuts; nil while it is shut
	shut     context.CancelFunc // of open
	turn     chan struct{}      // closed when the gate opens
}

func newGate() *gate {
	g := &gate{turn: make(chan struct{})}
	g.set(func(*gate) {})
	return g
}

// set changes what the gate depends on.
func (g *gate) set(change func(*gate)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
	switch takes := !g.draining && g.unfit == ""; {
	case takes && g.open == nil:
		g.open, g.shut = context.WithCancel(context.Background())
		close(g.turn)
	case !takes && g.open != nil:
		g.shut()
		g.open, g.turn = nil, make(chan struct{})
	}
}

// wait returns when the gate is open, with a context that ends when it shuts;
// nil if ctx ended first.
func (g *gate) wait(ctx context.Context) context.Context {
	for {
		g.mu.Lock()
		open, turn := g.open, g.turn
		g.mu.Unlock()
		if ctx.Err() != nil {
			return nil
		}
		if open != nil {
			return open
		}
		select {
		case <-ctx.Done():
		case <-turn:
		}
	}
}

func (g *gate) state() (draining bool, unfit string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.draining, g.unfit
}
