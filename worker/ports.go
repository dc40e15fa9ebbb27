package worker

import (
	"context"
	"io"
	"time"

	"sluice/messages"
)

// An Inbox hands over actions. Next waits until there is one or ctx ends; Some
// returns up to n that are there. The worker settles each once its lease is
// claimed or lost.
type Inbox interface {
	Next(ctx context.Context) (*messages.Delivery, error)
	Some(ctx context.Context, n int) []*messages.Delivery
}

// An Outbox publishes a message on its subject and returns when the server has
// stored it.
type Outbox interface {
	Publish(ctx context.Context, subject string, m messages.Message, id string) error
}

// Leases is the register of leases. Every write carries its time to live.
// Create wants a key that was never written: an expired one is not free.
type Leases interface {
	Get(ctx context.Context, key string) (messages.Entry[messages.Lease], error)
	Create(ctx context.Context, key string, value *messages.Lease, ttl time.Duration) (messages.Revision, error)
	Update(ctx context.Context, key string, value *messages.Lease, last messages.Revision, ttl time.Duration) (messages.Revision, error)
}

// A Fleet takes this worker's presence. Announce overwrites the last one.
type Fleet interface {
	Announce(ctx context.Context, p *messages.Presence, ttl time.Duration) error
}

// Verdicts hears the persister's events of this backend, as they are published,
// until ctx ends. It calls missed when some may have been lost.
type Verdicts interface {
	Follow(ctx context.Context, handle func(context.Context, *messages.PersisterEvent), missed func()) error
}

// Controls hears control messages to this worker until ctx ends. They may be
// lost.
type Controls interface {
	Listen(ctx context.Context, handle func(*messages.Control)) error
}

// Code extracts the tree of a commit (or of a working folder) into an empty
// directory, as this process's user. The error is a messages.Failure if the
// source is at fault.
type Code interface {
	Extract(ctx context.Context, src messages.Source, dir string) error
}

// A Runtime runs containers. Its calls are bounded in time by themselves.
type Runtime interface {
	// Check reports what is missing for running anything at all.
	Check(ctx context.Context) error
	// Image makes sure that an image can be run and returns its digest. A
	// messages.Failure says that there is no such image.
	Image(ctx context.Context, name string) (digest string, err error)
	// Start creates and starts the container of an attempt.
	Start(ctx context.Context, spec Spec) (Container, error)
	// Find returns the containers of this worker that exist, running or not.
	Find(ctx context.Context) ([]Container, error)
	// Drain takes away what was made for attempts to come: there will be none.
	Drain()
}

// A Container is the one container of an attempt.
type Container interface {
	Attempt() Attempt
	// Wait returns how the container ended; again and again the same.
	Wait(ctx context.Context) (Exit, error)
	// Logs writes the whole log from its beginning to w, and goes on until the
	// container ends. A slow w does not slow the container.
	Logs(ctx context.Context, w io.Writer) error
	// Stop asks the container to end, and makes it end after the grace.
	Stop(ctx context.Context, grace time.Duration) error
	// Inspect returns the container's record as JSON, its environment redacted.
	Inspect(ctx context.Context) ([]byte, error)
	// Usage returns what the container uses now.
	Usage(ctx context.Context) (Usage, error)
	// Remove deletes the container. A container that is gone is no error.
	Remove(ctx context.Context) error
}

// A Usage is a sample of a container that runs.
type Usage struct {
	Container string        // its id
	CPU       time.Duration // of all processors, since it was started
	Memory    int64         // bytes, without what the kernel can drop
}

// An Attempt names one run of a job.
type Attempt struct {
	Job     messages.JobID
	Number  int
	Backend string
}

// A Spec is all that a container is made from.
type Spec struct {
	Attempt   Attempt
	Workspace string // label
	Action    string // label
	Image     string // name:version or digest, as Runtime.Image knows it
	Digest    string // of the image, as Runtime.Image said it; empty if it was not asked
	Args      []string
	Env       []messages.EnvVar // with secrets, from the worker's own configuration
	Dir       string            // on this machine; mounted at /workspace, the working directory
	UID, GID  int
	Network   Network
	Limits    messages.Limits
}

// A Network is what a container may reach. The zero value is nothing.
type Network struct {
	Name  string   // of a network of the engine
	DNS   []string // servers
	Hosts []string // "name:address"
}

// An Exit is how a container ended.
type Exit struct {
	Code      int
	OOMKilled bool
	Started   time.Time
	Finished  time.Time
}
