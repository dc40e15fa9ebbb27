package docker

import (
	"context"
	"time"

	"github.com/containerd/errdefs"

	"sluice/worker"
)

// nameAfter is how long a container that was started in advance must run before
// it gets its attempt's name. A new name has the engine write its records to the
// disk, for some two milliseconds of processor time: a short job does without.
// The bound is what SLUICE_STAGE_WAIT is by default: who is told that an action
// runs finds its container by its name.
const nameAfter = time.Second

// nameLatest bounds the naming: the container's removal waits for it.
const nameLatest = 10 * time.Second

// nameLater gives a container that was started in advance its attempt's name, if
// it still runs by then. It is for those who look at the engine: nothing here
// depends on it.
func (b *box) nameLater() {
	ctx, cancel := context.WithCancel(b.r.life)
	done := make(chan struct{})
	b.mu.Lock()
	b.unname = func(ctx context.Context) {
		cancel()
		select {
		case <-done:
		case <-ctx.Done():
		}
	}
	b.mu.Unlock()
	b.r.all.Go(func() {
		defer close(done)
		defer cancel()
		timer := time.NewTimer(nameAfter)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if b.slot != nil && !b.slot.waits() {
			return
		}
		// Not broken off: an engine that names a container while it removes it may
		// keep the name.
		call, over := context.WithTimeout(context.WithoutCancel(ctx), nameLatest)
		defer over()
		if err := b.r.cli.ContainerRename(call, b.id, b.r.name(b.attempt)); err != nil && !errdefs.IsNotFound(err) {
			b.r.cfg.Log.Warn().Err(err).Str("container", b.id[:12]).Msg("a container could not be given its attempt's name")
		}
	})
}

// begin notes that an attempt is about to have a container. As one that was
// started in advance has no name at first, by which the engine would refuse a
// second, this process remembers: whether it began the attempt before, and does
// not know the container to be gone; and whether that was handed the attempt's
// command.
func (r *Runtime) begin(a worker.Attempt) (before, handed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	handed, before = r.begun[a]
	r.begun[a] = handed
	return before, handed
}

// handed notes that a container that waited has an attempt's command.
func (r *Runtime) handed(a worker.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[a] = true
}

// gone notes that an attempt has no container.
func (r *Runtime) gone(a worker.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.begun, a)
}
