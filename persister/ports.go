package persister

import (
	"context"

	"sluice/messages"
)

// A Queue delivers messages until ctx ends: handle runs for several at a time,
// Config.Concurrency where it was made with that; nil settles a message,
// messages.Park puts it into the dead letters, any other error has it delivered
// again after a pause.
type Queue interface {
	Receive(ctx context.Context, handle func(context.Context, *messages.Delivery) error) error
}

// An Outbox publishes a message on its subject and returns when the server has
// stored it.
type Outbox interface {
	Publish(ctx context.Context, subject string, m messages.Message, id string) error
}

// Jobs reads the planner's records (I6).
type Jobs interface {
	Get(ctx context.Context, key string) (messages.Entry[messages.Job], error)
}

// Plans reads the planner's plans of requests.
type Plans interface {
	Get(ctx context.Context, key string) (messages.Entry[messages.Plan], error)
}

// Commits is the register of commits. Create wraps messages.ErrConflict if
// there is one already.
type Commits interface {
	Get(ctx context.Context, key string) (messages.Entry[messages.Commit], error)
	Create(ctx context.Context, key string, value *messages.Commit) (messages.Revision, error)
}
