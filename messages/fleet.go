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
	for pool, slots := range pr.Pools {
		p.add(CheckPool(pool))
		if slots.Total < 0 || slots.Used < 0 {
			p.addf("pool %s has a negative number of slots", pool)
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
}

// Validate reports every rule that the record breaks.
func (l *Leader) Validate() error {
	if l.Owner == "" || l.Nonce == "" {
		return Problems{"a leader needs an owner and a nonce"}
	}
	return nil
}
