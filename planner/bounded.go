package planner

import (
	"context"
	"time"

	"sluice/messages"
)

// within gives every call of the ports a bound in time. Watches and queues are
// made to last, and keep theirs.
func (p Ports) within(d time.Duration) Ports {
	p.Outbox = boundedOutbox{p.Outbox, d}
	p.Actions = boundedActions{p.Actions, d}
	p.Files = boundedFiles{p.Files, d}
	p.Dead = boundedDead{p.Dead, d}
	p.Room = boundedRoom{p.Room, d}
	p.Jobs = boundedRegister[messages.Job]{boundedCell[messages.Job]{p.Jobs, d}, p.Jobs}
	p.Latest = boundedRegister[messages.Latest]{boundedCell[messages.Latest]{p.Latest, d}, p.Latest}
	p.Plans = boundedRegister[messages.Plan]{boundedCell[messages.Plan]{p.Plans, d}, p.Plans}
	p.Commits = boundedCell[messages.Commit]{p.Commits, d}
	p.Leases = boundedExpiring[messages.Lease]{p.Leases, d}
	p.Leader = boundedExpiring[messages.Leader]{p.Leader, d}
	return p
}

type boundedOutbox struct {
	Outbox
	d time.Duration
}

func (b boundedOutbox) Publish(ctx context.Context, subject string, m messages.Message, id string) error {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Outbox.Publish(ctx, subject, m, id)
}

func (b boundedOutbox) PublishAll(ctx context.Context, list []messages.Outgoing) []error {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Outbox.PublishAll(ctx, list)
}

type boundedActions struct {
	Actions
	d time.Duration
}

func (b boundedActions) PurgeAction(ctx context.Context, subject string) error {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Actions.PurgeAction(ctx, subject)
}

func (b boundedActions) SweepQueues(ctx context.Context, backend string, pools []string) error {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Actions.SweepQueues(ctx, backend, pools)
}

type boundedFiles struct {
	Files
	d time.Duration
}

func (b boundedFiles) FilesQueued(ctx context.Context, subject string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Files.FilesQueued(ctx, subject)
}

type boundedDead struct {
	DeadLetters
	d time.Duration
}

func (b boundedDead) Park(ctx context.Context, subject string, m messages.Message, by, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.DeadLetters.Park(ctx, subject, m, by, reason)
}

type boundedRoom struct {
	Room
	d time.Duration
}

func (b boundedRoom) Crowded(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Room.Crowded(ctx)
}

type boundedCell[T any] struct {
	cell Cell[T]
	d    time.Duration
}

func (b boundedCell[T]) Get(ctx context.Context, key string) (messages.Entry[T], error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.cell.Get(ctx, key)
}

func (b boundedCell[T]) Create(ctx context.Context, key string, value *T) (messages.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.cell.Create(ctx, key, value)
}

func (b boundedCell[T]) Update(ctx context.Context, key string, value *T, last messages.Revision) (messages.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.cell.Update(ctx, key, value, last)
}

type boundedRegister[T any] struct {
	boundedCell[T]
	all Register[T]
}

func (b boundedRegister[T]) All(ctx context.Context, filter string, handle func(messages.Entry[T])) error {
	return b.all.All(ctx, filter, handle) // as long as the register is
}

type boundedExpiring[T any] struct {
	Expiring[T]
	d time.Duration
}

func (b boundedExpiring[T]) Get(ctx context.Context, key string) (messages.Entry[T], error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Expiring.Get(ctx, key)
}

func (b boundedExpiring[T]) Create(ctx context.Context, key string, value *T, ttl time.Duration) (messages.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Expiring.Create(ctx, key, value, ttl)
}

func (b boundedExpiring[T]) Update(ctx context.Context, key string, value *T, last messages.Revision, ttl time.Duration) (messages.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, b.d)
	defer cancel()
	return b.Expiring.Update(ctx, key, value, last, ttl)
}
