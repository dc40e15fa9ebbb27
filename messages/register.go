package messages

import (
	"errors"
	"time"
)

// A Revision is the version of a key in a register. It only grows. The zero
// Revision means that the key has never been written.
type Revision uint64

// An Entry is what a register holds under a key.
type Entry[T any] struct {
	Key      string
	Value    *T // nil if Expired
	Revision Revision
	At       time.Time // when it was written, by the server's clock
	Expired  bool      // its TTL ran out; a marker stands in its place, whose revision can be compared and set
}

// Errors of registers and queues. Implementations wrap them.
var (
	// ErrNotFound: the key has no value and no marker.
	ErrNotFound = errors.New("no such key")
	// ErrConflict: the key changed since it was read. Read again, compare.
	ErrConflict = errors.New("the key was changed by another")
	// ErrQueued: this subject already has a message in the queue.
	ErrQueued = errors.New("already queued")
	// ErrFull: the stream takes no more for now.
	ErrFull = errors.New("the stream is full")
)
