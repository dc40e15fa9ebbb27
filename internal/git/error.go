package git

import (
	"errors"
	"fmt"
)

// A Kind says what is wrong with what the user asked for.
type Kind string

// Kinds. Everything else is our fault or the network's, and may go away.
const (
	NotAllowed   Kind = "not_allowed"   // the rules or our safety forbid it
	NoRepository Kind = "no_repository" // nothing there that we may read
	NoBranch     Kind = "no_branch"
	NoTag        Kind = "no_tag"
	NoCommit     Kind = "no_commit" // not in the repository, or not on the branch
	NoFile       Kind = "no_file"
	TooLarge     Kind = "too_large"
)

// Error makes a Kind usable as the target of errors.Is.
func (k Kind) Error() string { return string(k) }

// An Error is a fault of the request that trying again cannot mend. Message is
// for the user; where upstream's job runner has a sentence for it, it is that.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

// Unwrap makes an Error match its kind.
func (e *Error) Unwrap() error { return e.Kind }

func errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Message: fmt.Sprintf(format, args...)}
}

// ErrNetwork marks a fetch that failed on the way, again and again.
var ErrNetwork = errors.New("(This may work if you try again later)")

// ErrNotFetched is the error of reading a commit that Fetch has not completed.
var ErrNotFetched = errors.New("the commit was not fetched")
