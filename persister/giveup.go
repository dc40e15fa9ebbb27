package persister

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"sluice/messages"
)

// mostTries bounds how often a message is tried whose attempt has no commit:
// with the pauses of the queue that is some eight minutes.
const mostTries = 20

// enough ends an attempt that fails the same way each time with a verdict, which
// the planner goes on from: the next attempt, and in the end internal_error. One
// that has the commit is never given up, as its job has ended with these files;
// nor is one that only waits for a machine, a server or its workspace.
func (a *attempt) enough(ctx context.Context, event *messages.PersisterEvent, err error) error {
	var parked *messages.Parked
	never := errors.Is(err, ErrWorkspace)
	if err == nil || errors.As(err, &parked) || !never && (a.tries < mostTries || passing(err)) {
		return err
	}
	// The commit may have been made since the message was read.
	commit, readErr := a.Persister.commit(ctx, a.at.Job)
	if readErr != nil || commit != nil && commit.Attempt == a.at.Number {
		return errors.Join(err, readErr)
	}
	if event.Reason = err.Error(); !never {
		event.Reason = fmt.Sprintf("given up after %d tries: %s", a.tries, event.Reason)
	}
	if event.Verdict == "" {
		event.Verdict = messages.Unusable
	}
	return nil
}

// A registerError is one of a register: what a server cannot do now it may do
// later.
type registerError struct{ error }

func (e registerError) Unwrap() error { return e.error }

// passing reports whether an error may be over by the next try, however many
// there were: another process, a server, a machine or a person is to do
// something first.
func passing(err error) bool {
	var register registerError
	if errors.As(err, &register) {
		var problems messages.Problems // of a value of our own: a register takes it never
		return !errors.Is(err, messages.ErrTooLarge) && !errors.As(err, &problems)
	}
	for _, target := range []error{
		ErrBusy, ErrUnfinished, context.Canceled, context.DeadlineExceeded,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO, syscall.ESTALE, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE,
		syscall.ETIMEDOUT, syscall.EHOSTDOWN, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.ENETUNREACH, syscall.ENOTCONN, syscall.ENODEV,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}
