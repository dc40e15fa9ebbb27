package messages

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// Schema is the major version of every payload that this build writes, and the
// newest that it reads.
const Schema = 1

// MaxPayload bounds an encoded message, in bytes. It leaves room for headers
// below the 1 MiB that a NATS server takes by default.
const MaxPayload = 960 << 10

// An Envelope is the part that all payloads share.
type Envelope struct {
	Schema int `json:"schema"`
}

func (e *Envelope) stamp() { e.Schema = Schema }

// A Message is a payload of this package.
type Message interface {
	// Validate reports every rule that the message breaks, at once.
	Validate() error
	stamp()
}

// Errors that are about one value and nothing else. Implementations of queues
// and registers wrap them.
var (
	// ErrTooLarge: the value is larger than MaxPayload, or than what the server takes.
	ErrTooLarge = errors.New("message is too large")
	// ErrInvalid: the value breaks its own rules, or would.
	ErrInvalid = errors.New("message is invalid")
	// ErrUnreadable: a register keeps something under the key that is no value of
	// its type. The entry has the revision, which can be compared and set.
	ErrUnreadable = errors.New("the value cannot be read")
)

// Unmendable reports whether an error is about one value and nothing else: no
// other try mends it, and whatever is about another value can go on.
func Unmendable(err error) bool {
	return errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnreadable)
}

// Encode returns m as JSON, stamped with the schema version. It refuses what
// its reader would refuse.
func Encode(m Message) ([]byte, error) {
	m.stamp()
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("encode %T: %w: %w", m, ErrInvalid, err)
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(m); err != nil {
		return nil, fmt.Errorf("encode %T: %w: %w", m, ErrInvalid, err)
	}
	data := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(data) > MaxPayload {
		return nil, fmt.Errorf("encode %T: %w: %d bytes, the limit is %d", m, ErrTooLarge, len(data), MaxPayload)
	}
	return data, nil
}

// Decode reads a payload into m and validates it. An error is fit for the
// sender: it names the field and what is expected there.
func Decode(data []byte, m Message) error {
	var head struct {
		Schema *int `json:"schema"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return describeJSON(data, err)
	}
	switch {
	case head.Schema == nil:
		return fmt.Errorf(`the message has no schema version; add "schema": %d`, Schema)
	case *head.Schema < 1 || *head.Schema > Schema:
		return fmt.Errorf("schema version %d is not known here; this build reads version 1 to %d", *head.Schema, Schema)
	}
	if err := json.Unmarshal(data, m); err != nil {
		return describeJSON(data, err)
	}
	return m.Validate()
}

// describeJSON turns an error of encoding/json into a sentence without Go's
// type names.
func describeJSON(data []byte, err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case len(bytes.TrimSpace(data)) == 0:
		return errors.New("the message is empty; a JSON object is expected")
	case errors.As(err, &syntax):
		line, column := position(data, syntax.Offset)
		return fmt.Errorf("the message is not JSON: line %d, column %d: %w", line, column, syntax)
	case errors.As(err, &kind) && kind.Field != "":
		return fmt.Errorf("field %q: a JSON %s does not fit here", kind.Field, kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("the message is a JSON %s; an object is expected", kind.Value)
	}
	return fmt.Errorf("the message cannot be read: %w", err)
}

// position returns the 1-based line and column of a byte offset.
func position(data []byte, offset int64) (line, column int) {
	before := data[:min(int(max(offset-1, 0)), len(data))]
	return bytes.Count(before, []byte("\n")) + 1, len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
}
