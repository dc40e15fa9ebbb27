package planner

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/messages"
)

// A Config is what an operator may set. The zero value is not valid; begin
// with DefaultConfig.
type Config struct {
	Name          string   // of this planner, in the leader's record
	Backends      []string // that requests may name; none means any
	Databases     []string // that requests may name; an empty database is the first
	WorkingFolder bool     // take requests for a folder as it lies on the disk (`sluice run`)

	DatabasePool string             // where database actions run
	DefaultPool  string             // where the others run
	PoolLimits   map[string]float64 // slots of a pool on a whole backend, where neither BackendLimits nor the backend's setting has one
	Weights      []Weight           // slots that a job takes; the first match counts, 1 without any; those of a backend's setting come before

	BackendLimits map[string]map[string]float64 // by backend and pool, before PoolLimits
	JobLimits     map[string]messages.Limits    // of every attempt, by backend, where its setting has none; zero means the worker's own

	Window      float64       // slots' worth of actions that are dispatched for each slot of a live worker
	MaxAttempts int           // of one job, for our own faults
	Backoff     time.Duration // before the second attempt; doubled for each further one
	MaxBackoff  time.Duration // the longest of them

	LeaseTTL    time.Duration // what workers write their leases with
	LeaseGrace  time.Duration // after an expiry, before the attempt is given up
	LeaseKeep   time.Duration // time to live of a lease that the planner stops or fences
	ClaimWait   time.Duration // after which an action that nobody has claimed is published again
	Reconcile   time.Duration // between passes over the registers
	LeaderTTL   time.Duration
	LeaderRenew time.Duration
	CallTimeout time.Duration // of one call to a port

	SourceWait   time.Duration // how long a project file may hold up the requests behind it
	SourceGiveUp time.Duration // after which a request whose project file cannot be had is rejected
}

// DefaultConfig returns a complete configuration.
func DefaultConfig() Config {
	return Config{
		Name:         "planner",
		Databases:    []string{"default"},
		DatabasePool: "db",
		DefaultPool:  "default",
		Window:       2,
		MaxAttempts:  3,
		Backoff:      5 * time.Second,
		MaxBackoff:   5 * time.Minute,
		LeaseTTL:     time.Minute,
		LeaseGrace:   2 * time.Minute,
		LeaseKeep:    7 * 24 * time.Hour,
		ClaimWait:    time.Minute,
		Reconcile:    30 * time.Second,
		LeaderTTL:    10 * time.Second,
		LeaderRenew:  3 * time.Second,
		CallTimeout:  20 * time.Second,
		SourceWait:   3 * time.Second,
		SourceGiveUp: time.Hour,
	}
}

// Check reports every value that cannot work, with its name.
func (c Config) Check() error {
	var p messages.Problems
	bad := func(format string, args ...any) { p = append(p, fmt.Sprintf(format, args...)) }
	if c.Name == "" || strings.ContainsFunc(c.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		bad("name is %s; it must not be empty or have control characters", messages.Quote(c.Name))
	}
	for _, b := range c.Backends {
		if err := messages.CheckBackend(b); err != nil {
			bad("backends: %v", err)
		}
	}
	if len(c.Databases) == 0 || slices.Contains(c.Databases, "") {
		bad("databases is %q; it needs at least one name, and no empty one", c.Databases)
	}
	for _, f := range []struct{ name, pool string }{{"database_pool", c.DatabasePool}, {"default_pool", c.DefaultPool}} {
		if err := messages.CheckPool(f.pool); err != nil {
			bad("%s: %v", f.name, err)
		}
	}
	limits := []map[string]float64{c.PoolLimits}
	for _, own := range c.BackendLimits {
		limits = append(limits, own)
	}
	for _, own := range limits {
		for pool, limit := range own {
			if err := messages.CheckPool(pool); err != nil {
				bad("pool_limits: %v", err)
			}
			if !(limit > 0) {
				bad("pool_limits: the limit of pool %s is %v; it must be above zero", pool, limit)
			}
		}
	}
	for _, w := range c.Weights {
		if err := w.check(); err != nil {
			bad("weights: %v", err)
		}
	}
	if !(c.Window >= 1 && c.Window <= 100) {
		bad("window is %v; it must be between 1 and 100", c.Window)
	}
	if c.MaxAttempts < 1 || c.MaxAttempts > 100 {
		bad("max_attempts is %d; it must be between 1 and 100", c.MaxAttempts)
	}
	for _, f := range []struct {
		name         string
		value, least time.Duration
	}{
		{"backoff", c.Backoff, 0}, {"max_backoff", c.MaxBackoff, c.Backoff},
		{"lease_ttl", c.LeaseTTL, time.Second}, {"lease_grace", c.LeaseGrace, c.LeaseTTL}, {"lease_keep", c.LeaseKeep, 2 * c.LeaseGrace},
		{"claim_wait", c.ClaimWait, time.Second}, {"reconcile", c.Reconcile, time.Second},
		{"leader_renew", c.LeaderRenew, 100 * time.Millisecond}, {"leader_ttl", c.LeaderTTL, 2 * c.LeaderRenew},
		{"call_timeout", c.CallTimeout, 100 * time.Millisecond},
		{"source_wait", c.SourceWait, 0}, {"source_give_up", c.SourceGiveUp, c.SourceWait},
	} {
		if f.value < f.least {
			bad("%s is %v; it must be at least %v", f.name, f.value, f.least)
		}
	}
	return p.Err()
}
