package planner

import (
	"context"
	"time"

	"sluice/messages"
)

// Ports is what the planner needs from the others.
type Ports struct {
	Requests Queue // requests and cancellations, in the order in which they were made
	Events   Queue // of workers and persisters
	Outbox   Outbox
	Actions  Actions
	Dead     DeadLetters
	Controls Controls
	Line     Line
	Source   Source
	Outputs  Outputs // nil: what a job has left is believed to be there

	Jobs     Register[messages.Job]
	Latest   Register[messages.Latest]
	Plans    Register[messages.Plan]
	Commits  Cell[messages.Commit]
	Leases   Expiring[messages.Lease]
	Leader   Expiring[messages.Leader]
	Workers  Watcher[messages.Presence]
	Settings Watcher[messages.Setting]

	Now func() time.Time // nil: the time in UTC
}

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

// Actions takes a queued action back, if no worker has it yet.
type Actions interface {
	PurgeAction(ctx context.Context, subject string) error
}

// DeadLetters keeps what was given up, with its reason.
type DeadLetters interface {
	Park(ctx context.Context, subject string, m messages.Message, by, reason string) error
}

// Controls sends a control message. It may be lost.
type Controls interface {
	Send(subject string, m messages.Message) error
}

// A Line tells when the connection has come back: the channel gets a value
// after each reconnect, until stop is called.
type Line interface {
	Reconnected() (again <-chan struct{}, stop func())
}

// A Source has the project files. A messages.Failure says that the request is
// at fault; any other error may go away.
type Source interface {
	// CheckSource reports what is wrong with the words of a source, all of it
	// at once, without looking anywhere.
	CheckSource(src messages.Source) error
	// Project returns project.yaml as it is at the source's commit.
	Project(ctx context.Context, src messages.Source) ([]byte, error)
}

// Outputs tells whether an output of a job that has succeeded is gone, so that
// its action has to run again (`sluice run`, where people delete files).
type Outputs interface {
	Gone(ctx context.Context, j *messages.Job) (bool, error)
}

// A Cell keeps values of one type under keys, changed by compare-and-set and
// read from the leader. Create wants a key that was never written. It wraps
// messages.ErrNotFound and messages.ErrConflict.
type Cell[T any] interface {
	Get(ctx context.Context, key string) (messages.Entry[T], error)
	Create(ctx context.Context, key string, value *T) (messages.Revision, error)
	Update(ctx context.Context, key string, value *T, last messages.Revision) (messages.Revision, error)
}

// A Register is a Cell whose values can be listed: All hands over every value
// whose key matches the filter (of tokens, "*" and ">"), in no order.
type Register[T any] interface {
	Cell[T]
	All(ctx context.Context, filter string, handle func(messages.Entry[T])) error
}

// An Expiring register's writes carry a time to live. An expired key leaves a
// marker, whose revision can be compared and set; it is not free for Create.
type Expiring[T any] interface {
	Get(ctx context.Context, key string) (messages.Entry[T], error)
	Create(ctx context.Context, key string, value *T, ttl time.Duration) (messages.Revision, error)
	Update(ctx context.Context, key string, value *T, last messages.Revision, ttl time.Duration) (messages.Revision, error)
	Watcher[T]
}

// A Watcher hands over values whose key matches the filter: All those of now,
// Watch also each change until ctx ends, where a deleted or expired key comes
// with a nil Value. Watch is a hint: it may repeat itself and leave out changes.
type Watcher[T any] interface {
	All(ctx context.Context, filter string, handle func(messages.Entry[T])) error
	Watch(ctx context.Context, filter string, handle func(messages.Entry[T])) error
}
