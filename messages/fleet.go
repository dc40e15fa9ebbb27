package messages

import "time"

// A Presence says that a worker lives, and how much it can take. It is renewed
// with its TTL and on every change.
type Presence struct {
	Envelope
	Worker   string           `json:"worker"`
	Backend  string           `json:"backend"`
	Host     string           `json:"host,omitempty"`
	Version  string           `json:"version,omitempty"`
	Pools    map[string]Slots `json:"pools"`
	Draining bool             `json:"draining,omitempty"`
	Reason   string           `json:"reason,omitempty"` // why it takes nothing: draining, disk is full, …
	Since    time.Time        `json:"since"`
	At       time.Time        `json:"at"`
}

// Slots is the room of one pool on one worker.
type Slots struct {
	Total float64 `json:"total"`
	Used  float64 `json:"used"`
}

// Validate reports every rule that the presence breaks.
func (pr *Presence) Validate() error {
	var p Problems
	p.add(CheckWorker(pr.Worker))
	p.add(CheckBackend(pr.Backend))
	p.text("host", pr.Host, maxWord)
	p.text("version", pr.Version, maxWord)
	p.text("reason", pr.Reason, MaxReason)
	p.when("since", pr.Since)
	p.when("at", pr.At)
	p.count("pools", len(pr.Pools), maxPools)
	for pool, slots := range pr.Pools {
		if len(p) > maxReasons {
			break
		}
		p.add(CheckPool(pool))
		if !(slots.Total >= 0 && slots.Total <= maxSlots && slots.Used >= 0 && slots.Used <= maxSlots) {
			p.addf("pool %s has a number of slots that is out of bounds", Quote(pool))
		}
	}
	return p.Err()
}

// A Leader names the active planner. It is renewed with its TTL.
type Leader struct {
	Envelope
	Owner string    `json:"owner"`
	Nonce string    `json:"nonce"`
	Since time.Time `json:"since"`

	// Whether this planner is well: how often it had to begin anew since it was
	// started, when and why it did last.
	Again   int       `json:"again,omitempty"`
	AgainAt time.Time `json:"again_at,omitzero"`
	Because string    `json:"because,omitempty"`
}

// Validate reports every rule that the record breaks.
func (l *Leader) Validate() error {
	var p Problems
	if l.Owner == "" || l.Nonce == "" {
		p.addf("a leader needs an owner and a nonce")
	}
	p.text("owner", l.Owner, maxWord)
	p.text("nonce", l.Nonce, maxWord)
	p.when("since", l.Since)
	p.when("again_at", l.AgainAt)
	p.text("because", l.Because, MaxReason)
	return p.Err()
}
