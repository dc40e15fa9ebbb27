package messages

import "time"

// A LogChunk is a piece of an attempt's log, for whoever follows it live. The
// whole log lies in staging, and later in the tier.
type LogChunk struct {
	Envelope
	Job     JobID     `json:"job"`
	Attempt int       `json:"attempt"`
	Offset  int64     `json:"offset"` // bytes of the log before this piece
	Text    string    `json:"text"`   // bytes that are not UTF-8 are replaced
	Last    bool      `json:"last,omitempty"`
	At      time.Time `json:"at"`
}

// Bounds of a chunk: it is sent when either is reached.
const (
	MaxLogChunk  = 48 << 10 // bytes
	LogChunkWait = 250 * time.Millisecond
)

// Validate reports every rule that the chunk breaks.
func (c *LogChunk) Validate() error {
	var p Problems
	p.add(c.Job.Check())
	if c.Attempt < 1 || c.Offset < 0 {
		p.addf("attempt %d or offset %d is out of range", c.Attempt, c.Offset)
	}
	p.text("text", c.Text, 4*MaxLogChunk) // what stands for a byte that is not UTF-8 takes three
	p.when("at", c.At)
	return p.Err()
}
