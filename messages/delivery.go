package messages

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Delivery is a message as a queue hands it over. Whoever gets one settles
// it, once.
type Delivery struct {
	Subject string
	Header  map[string][]string
	Data    []byte
	Tries   int       // deliveries of this message so far, this one included; a hint
	At      time.Time // when the server stored it
	Behind  int       // messages that waited behind it when it was handed over; a hint

	// Settle ends the delivery: nil acknowledges the message, a Parked error
	// puts it into the dead letters, any other error has it delivered again
	// after a pause.
	Settle func(ctx context.Context, err error) error

	// Progress says that the message is being worked on. It may be nil, and
	// its error means no more than a redelivery.
	Progress func() error
}

// An Outgoing is a message that is to be published. A second copy of one whose id
// was seen lately is dropped.
type Outgoing struct {
	Subject string
	Message Message
	ID      string
}

// A Parked error says that a message can never be processed: it belongs in the
// dead letters with its reason (I5).
type Parked struct {
	Reason string
	cause  error
}

// Park returns a Parked error. A %w in format is kept for errors.Is.
func Park(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Parked{Reason: err.Error(), cause: errors.Unwrap(err)}
}

func (p *Parked) Error() string { return p.Reason }

// Unwrap returns the cause, if any.
func (p *Parked) Unwrap() error { return p.cause }
