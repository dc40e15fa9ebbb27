package planner

import (
	"context"

	"sluice/messages"
)

// A Queue delivers messages until ctx ends: handle runs for one at a time; nil
// settles it, messages.Park puts it into the dead letters, any other error has
// it delivered again.
type Queue interface {
	Receive(ctx context.Context, handle func(context.Context, *messages.Delivery) error) error
}

// An Outbox publishes a message on its subject and returns when the server has
// stored it. An id that was seen before saves the copy; it is a hint, never a
// guarantee. It wraps messages.ErrQueued and messages.ErrFull.
type Outbox interface {
	Publish(ctx context.Context, subject string, m messages.Message, id string) error
}

// A Register keeps values of one type under keys, changed by compare-and-set
// and read from the leader. Create wants a key that was never written.
type Register[T any] interface {
	Get(ctx context.Context, key string) (messages.Entry[T], error)
	Create(ctx context.Context, key string, value *T) (messages.Revision, error)
	Update(ctx context.Context, key string, value *T, last messages.Revision) (messages.Revision, error)
}
