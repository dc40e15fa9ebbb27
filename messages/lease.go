package messages

import "time"

// A LeaseState says who may act on an attempt.
type LeaseState string

// States of a lease. An expired one has none: its key is a marker.
const (
	LeaseHeld     LeaseState = "held"     // by the worker that claimed the attempt
	LeaseStopping LeaseState = "stopping" // the planner wants the container stopped; the slot still counts
	LeaseReleased LeaseState = "released" // the worker is done with it: files published, or stopped
	LeaseFenced   LeaseState = "fenced"   // the planner gave the attempt up; the holder must stop
)

// A Lease is the right to run one attempt. It is claimed once, renewed by
// compare-and-set with its TTL, and fenced the same way.
type Lease struct {
	Envelope
	State  LeaseState `json:"state"`
	Owner  string     `json:"owner"` // the worker
	Nonce  string     `json:"nonce"` // of this claim
	Weight float64    `json:"weight"`
	Pool   string     `json:"pool"`
	Reason string     `json:"reason,omitempty"` // of stopping or fencing, a code
	At     time.Time  `json:"at"`
}

// Counts reports whether the attempt still takes up its slots.
func (l *Lease) Counts() bool { return l.State == LeaseHeld || l.State == LeaseStopping }

// Validate reports every rule that the lease breaks.
func (l *Lease) Validate() error {
	var p Problems
	switch l.State {
	case LeaseHeld, LeaseStopping, LeaseReleased, LeaseFenced:
	default:
		p.addf("%s is not the state of a lease", Quote(string(l.State)))
	}
	p.add(CheckWorker(l.Owner))
	p.text("nonce", l.Nonce, maxWord)
	p.text("pool", l.Pool, MaxNameLength)
	p.text("reason", l.Reason, MaxReason)
	p.when("at", l.At)
	return p.Err()
}
