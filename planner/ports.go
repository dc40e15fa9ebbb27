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
	Files    Files
	Dead     DeadLetters
	Room     Room
	Controls Controls
	Line     Line
	Source   Source
	Outputs  Outputs  // nil: what a job has left is believed to be there
	Reusable Reusable // nil: whatever stands before a colon is an image
	Images   Images   // nil: images are not pinned when a job is planned

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
// guarantee. It wraps messages.ErrQueued and messages.ErrFull. PublishAll does
// that for each of several, sent in this order, and returns an error or nil for
// each.
type Outbox interface {
	Publish(ctx context.Context, subject string, m messages.Message, id string) error
	PublishAll(ctx context.Context, list []messages.Outgoing) []error
}

// Actions takes a queued action back, if no worker has it yet.
type Actions interface {
	PurgeAction(ctx context.Context, subject string) error
	// SweepQueues removes from a backend's queues what is settled and was kept by
	// servers that died: nobody would take it, and an action would be kept out by
	// an earlier one of its job.
	SweepQueues(ctx context.Context, backend string, pools []string) error
}

// Files tells whether a files message on a subject waits for its persister, or
// is with it.
type Files interface {
	FilesQueued(ctx context.Context, subject string) (bool, error)
}

// DeadLetters keeps what was given up, with its reason.
type DeadLetters interface {
	Park(ctx context.Context, subject string, m messages.Message, by, reason string) error
}

// Room tells what the server has little room left for.
type Room interface {
	// Crowded returns, by the name of each stream and register that is more than
	// half full, what that comes to and what to do.
	Crowded(ctx context.Context) (map[string]string, error)
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

// A Reusable knows the actions that studies share. A messages.Failure says that
// the study is at fault; any other error may go away.
type Reusable interface {
	// IsImage reports whether a name is an image, and no reusable action.
	IsImage(name string) bool
	// Action returns the repository of a reusable action, the commit that a tag
	// stands for and is approved, and its action.yaml.
	Action(ctx context.Context, name, tag string) (src messages.Source, file []byte, err error)
}

// Images knows what the names of images stand for now. A messages.Failure says
// that there is no such image; any other error may go away.
type Images interface {
	Digest(ctx context.Context, image string) (string, error)
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
