package docker

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/docker/docker/client"

	"sluice/worker"
)

// StartParked starts an attempt in a container that was started in advance:
// one is made and offered before. It is an error if another kind was used.
func (r *Runtime) StartParked(ctx context.Context, spec worker.Spec) (worker.Container, error) {
	if err := r.Park(spec); err != nil {
		return nil, err
	}
	started, err := r.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	if !Parked(started) {
		return started, errors.New("the container was not started in advance")
	}
	return started, nil
}

// Park starts a container in advance.
func (r *Runtime) Park(spec worker.Spec) error {
	if r.parking == nil {
		return errors.New("this runtime starts nothing in advance")
	}
	c, _, ok := r.classOf(spec)
	if !ok {
		return errors.New("no container of this kind is started in advance")
	}
	s, err := r.parking.makeSlot(c)
	if err != nil {
		return err
	}
	r.parking.mu.Lock()
	defer r.parking.mu.Unlock()
	stock := r.parking.stock(c)
	stock.idle = append(stock.idle, s)
	return nil
}

// Settle waits for what is under way in the background.
func (r *Runtime) Settle() { r.parking.all.Wait() }

// Die lets go of all, as the kernel does for a process that is killed. With a
// spec, that happens while one container is handed over: what it becomes is
// written down, and no more.
func (r *Runtime) Die(spec *worker.Spec) error {
	p := r.parking
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	var err error
	for _, s := range p.stocks {
		s.expiry.Stop()
		s.plenty.Stop()
		for _, slot := range s.idle {
			if spec != nil {
				err = slot.prepare(&taken{Attempt: spec.Attempt})
				spec = nil
			}
			slot.release()
		}
	}
	return errors.Join(err, p.lock.Close())
}

// Idle is how many wait.
func (r *Runtime) Idle() (n int) {
	r.parking.mu.Lock()
	defer r.parking.mu.Unlock()
	for _, s := range r.parking.stocks {
		n += len(s.idle)
	}
	return n
}

// Parked reports whether a container was started in advance.
func Parked(c worker.Container) bool { return c.(*box).taken != nil }

// NameAfter is when a container gets its attempt's name.
const NameAfter = nameAfter

// ID is a container's.
func ID(c worker.Container) string { return c.(*box).id }

// Clog breaks the way to the next container of each class that waits: a command
// is handed over to it and does not come through.
func (r *Runtime) Clog() error {
	r.parking.mu.Lock()
	defer r.parking.mu.Unlock()
	for _, s := range r.parking.stocks {
		in, out, err := os.Pipe()
		if err != nil {
			return err
		}
		_ = in.Close()
		next := s.idle[0]
		next.outs = append(next.outs, next.feed) // it waits for as long as that is open
		next.feed = out
	}
	return nil
}

// Refill makes up now for what was taken.
func (r *Runtime) Refill(spec worker.Spec) {
	if c, _, ok := r.classOf(spec); ok {
		r.parking.refill(c)
	}
}

// Hurry is what the start of a container does that an action waits for.
func (r *Runtime) Hurry() (done func()) { return r.parking.hurry() }

// Shrink is what becomes of a class when no action found none for long.
func (r *Runtime) Shrink(spec worker.Spec) {
	if c, _, ok := r.classOf(spec); ok {
		r.parking.shrink(c)
	}
}

// Lose forgets a container that waits, as if the engine had not answered when it
// was to be removed.
func (r *Runtime) Lose() error {
	p := r.parking
	p.mu.Lock()
	var lost *slot
	for _, s := range p.stocks {
		lost, s.idle = s.idle[0], s.idle[1:]
	}
	p.mu.Unlock()
	cli := r.cli
	deaf, err := client.NewClientWithOpts(client.WithHost("unix:///no/such/engine"))
	if err != nil {
		return err
	}
	r.cli = deaf
	p.discard(lost)
	r.cli = cli
	return deaf.Close()
}

// OOMEvent asks for what an engine's record may lack.
func (r *Runtime) OOMEvent(ctx context.Context, id, since string, late time.Duration) (bool, error) {
	return r.oomEvent(ctx, id, since, late)
}
