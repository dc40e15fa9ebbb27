package messages

import "errors"

// A Revision is the version of a key in a register. It only grows. The zero
// Revision means that the key has never been written.
type Revision uint64

// Errors of registers and queues. Implementations wrap them.
var (
	// ErrNotFound: the key has no value.
	ErrNotFound = errors.New("no such key")
	// ErrConflict: the key changed since it was read. Read again, compare.
	ErrConflict = errors.New("the key was changed by another")
	// ErrQueued: this subject already has a message in the queue.
	ErrQueued = errors.New("already queued")
	// ErrFull: the queue takes no more for now.
	ErrFull = errors.New("the queue is full")
)
