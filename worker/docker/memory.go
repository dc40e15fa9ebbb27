package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// A toll is what the kernel said of a container's processes: whether it killed
// one for want of memory.
type toll struct {
	killed bool
	known  bool // else nobody said
}

// How long after a container's end is known its want of memory may still be
// told, by a machine that is busy. Code 137 is nearly always that, or our own
// SIGKILL; any other is most often a mistake in the action, whose author waits.
const (
	killedLate = time.Second
	otherLate  = 100 * time.Millisecond
)

// learn keeps what is known for good.
func (b *box) learn(t toll) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.known {
		b.toll = t
	}
}

// starved reports whether a process of a container that has ended was killed for
// want of memory. The engine may keep a record that says no for ever: Docker
// 20.10 writes it at the end, and is told of the want of memory by another way,
// now and then some hundred milliseconds later. All that comes of it then is an
// event. An error is ctx's.
func (b *box) starved(ctx context.Context, found container.InspectResponse) (bool, error) {
	b.mu.Lock()
	t := b.toll
	b.mu.Unlock()
	switch {
	case found.State.OOMKilled:
		return true, nil
	case t.known:
		return t.killed, nil
	case found.State.ExitCode == 0:
		return false, nil // an action that succeeds is not kept waiting
	}
	late := otherLate
	if found.State.ExitCode == 137 {
		late = killedLate
	}
	killed, err := b.r.oomEvent(ctx, found.ID, found.Created, late)
	switch {
	case ctx.Err() != nil && !killed:
		return false, context.Cause(ctx)
	case err != nil:
		b.r.cfg.Log.Warn().Err(err).Str("container", b.id[:12]).Msg("whether the container ran out of memory is not known for sure")
		return false, nil
	}
	b.learn(toll{killed: killed, known: true})
	return killed, nil
}

// oomEvent reports whether the engine was told of a container that it ran out of
// memory. It keeps its last 256 events, and is asked for those that come in a
// while, too.
func (r *Runtime) oomEvent(ctx context.Context, id, since string, late time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, late+r.cfg.Timeout)
	defer cancel()
	told, failed := r.cli.Events(ctx, events.ListOptions{
		Since: since, Until: time.Now().Add(late).UTC().Format(time.RFC3339Nano),
		Filters: filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("container", id), filters.Arg("event", string(events.ActionOOM))),
	})
	for {
		select {
		case e := <-told:
			if e.Action == events.ActionOOM {
				return true, nil
			}
		case err := <-failed:
			if errors.Is(err, io.EOF) {
				return false, nil // that was all
			}
			return false, fmt.Errorf("ask the engine for events: %w", err)
		}
	}
}
