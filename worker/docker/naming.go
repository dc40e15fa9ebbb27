package docker

import (
	"context"
	"maps"
	"time"

	"github.com/containerd/errdefs"

	"sluice/worker"
)

// nameAfter is how long a container that was started in advance must run before
// it gets its attempt's name. A new name has the engine write its records to the
// disk, for some two milliseconds of processor time: a short job does without.
// The bound is that of a stage that is told (SLUICE_STAGE_WAIT): who is told that
// an action runs finds its container by its name.
const nameAfter = time.Second

// nameLatest bounds the naming: the container's removal waits for it.
const nameLatest = 10 * time.Second

// nameLater gives a container that was started in advance its attempt's name, if
// it still runs by then. It is for those who look at the engine: nothing here
// depends on it.
func (b *box) nameLater() {
	ctx, cancel := context.WithCancel(b.r.life)
	done := make(chan struct{})
	b.unnamed = func() {
		cancel()
		<-done
	}
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

// maxBegun bounds what is remembered of attempts whose containers could not be
// made, as nobody removes those.
const maxBegun = 4096

// begin notes that an attempt is about to have a container. As one that was
// started in advance has no name at first, by which the engine would refuse a
// second, this process remembers: whether it began the attempt before, and does
// not know the container to be gone; and whether that may have been handed the
// attempt's command.
func (r *Runtime) begin(a worker.Attempt) (before, handed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	handed, before = r.begun[a]
	if len(r.begun) >= maxBegun {
		// Of the others the engine knows the names.
		maps.DeleteFunc(r.begun, func(_ worker.Attempt, handed bool) bool { return !handed })
	}
	r.begun[a] = handed
	return before, handed
}

// hand notes whether a container that waits may have been handed an attempt's
// command.
func (r *Runtime) hand(a worker.Attempt, handed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[a] = handed
}

// gone notes that an attempt's container was removed.
func (r *Runtime) gone(a worker.Attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.begun, a)
}
