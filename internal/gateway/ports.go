package gateway

import (
	"context"
	"time"

	"sluice/messages"
)

// Ports is what the gateway needs from the server.
type Ports struct {
	Outbox   Outbox
	Outcomes Stream // of all backends, by sequence
	Requests Stream
	Presence Presence
	Settings Settings
	Hints    Hints

	Now func() time.Time // nil: the time in UTC
}

// An Outbox publishes a message on its subject and returns when the server has
// stored it. An id that was seen in the last minutes saves the copy; empty: none
// was.
type Outbox interface {
	Publish(ctx context.Context, subject string, m messages.Message, id string) error
}

// A Stream reads messages one by one: Next returns the first one on a subject,
// which may have wildcards, at a sequence or behind it. It wraps
// messages.ErrNotFound.
type Stream interface {
	Next(ctx context.Context, subject string, from uint64) (Stored, error)
}

// A Stored message lies in a stream.
type Stored struct {
	Subject  string
	Data     []byte
	Sequence uint64
	At       time.Time // when the server stored it
}

// Presence tells when a worker of a backend was heard of last; zero: none is
// there.
type Presence interface {
	LastSeen(ctx context.Context, backend string) (time.Time, error)
}

// Settings reads what operators have set for a backend. It wraps
// messages.ErrNotFound.
type Settings interface {
	Get(ctx context.Context, key string) (messages.Entry[messages.Setting], error)
}

// Hints tells that something was published on a subject, until stop is called.
// It may miss some.
type Hints interface {
	Hints(subject string) (hints <-chan struct{}, stop func(), err error)
}
