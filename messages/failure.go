package messages

import (
	"errors"
	"fmt"
	"strings"
)

// A Failure is an outcome that trying again cannot change: bad input, or an
// action's own end. Detail is one sentence for the reader: what happened,
// where, and what to do about it. Any other error is ours, and is retried.
type Failure struct {
	Code   Code
	Detail string
	cause  error
}

// Failf returns a Failure. A %w in format is kept for errors.Is.
func Failf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Failure{Code: code, Detail: err.Error(), cause: errors.Unwrap(err)}
}

func (f *Failure) Error() string { return string(f.Code) + ": " + f.Detail }

// Unwrap makes a Failure match its code and its cause.
func (f *Failure) Unwrap() []error {
	if f.cause == nil {
		return []error{f.Code}
	}
	return []error{f.Code, f.cause}
}

// Problems is every fault of one input at once, a sentence each.
type Problems []string

func (p Problems) Error() string { return strings.Join(p, "; ") }

// Err returns p as an error, or nil if there are none.
func (p Problems) Err() error {
	if len(p) == 0 {
		return nil
	}
	return p
}

// add appends err's sentences, if any.
func (p *Problems) add(err error) {
	var many Problems
	switch {
	case err == nil:
	case errors.As(err, &many):
		*p = append(*p, many...)
	default:
		*p = append(*p, err.Error())
	}
}

func (p *Problems) addf(format string, args ...any) {
	*p = append(*p, fmt.Sprintf(format, args...))
}

// Sentences returns the problems that err stands for: its own, or the one.
func Sentences(err error) []string {
	var many Problems
	if errors.As(err, &many) {
		return many
	}
	return []string{err.Error()}
}
