package worker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/worker/staging"
)

// A Config is what an operator may set. Begin with DefaultConfig.
type Config struct {
	Name      string             // of this worker: stable over restarts, unique in its backend
	Backend   string             // whose actions it takes
	Pools     map[string]float64 // slots of each pool
	State     string             // folder of the journal, this worker's own
	LeaseTTL  time.Duration
	StopGrace time.Duration   // between SIGTERM and SIGKILL of a container
	Drain     time.Duration   // to wait for attempts in hand when told to stop; then they are left running. 0: without end
	Limits    messages.Limits // of an attempt, where the action has none
	StageWait time.Duration   // a stage of an attempt that is over by then is not told; 0: each is
	LogBytes  int64           // kept of an attempt's log: half from its beginning, half from its end
	MinFree   int64           // bytes free in staging below which nothing is taken
	UID, GID  int             // of the containers
	Host      string
	Version   string

	Databases map[string]string              // URL by dataset: default, slice, dummy
	Network   Network                        // of database actions
	Hosts     func(context.Context) []string // asked for each of them: Network.Hosts of now; nil: as it is
	Env       []messages.EnvVar              // of every action
	DBEnv     []messages.EnvVar              // of database actions; may hold secrets
	ImageEnv  map[string][]messages.EnvVar   // of actions whose image's name begins so, such as a licence
}

// DefaultConfig returns a complete configuration but for Name, Backend and
// State. Limits are the reference's (controller/config.py); it has none for
// processes and time.
func DefaultConfig() Config {
	return Config{
		Pools: map[string]float64{"default": 2}, LeaseTTL: time.Minute, StopGrace: 10 * time.Second, StageWait: time.Second,
		Limits:   messages.Limits{CPUs: 2, Memory: 4 << 30, Processes: 1024, Disk: 100 << 30, Time: 7 * 24 * time.Hour},
		LogBytes: 32 << 20, MinFree: 1 << 30, UID: 10000, GID: 10000,
	}
}

// minMemory is the least that the Docker Engine takes.
const minMemory = 6 << 20

// Check reports every value that cannot work, with its name.
func (c Config) Check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	errs = append(errs, messages.CheckWorker(c.Name), messages.CheckBackend(c.Backend))
	if len(c.Pools) == 0 {
		bad("pools: there is none, so that no action would ever be taken")
	}
	for _, pool := range slices.Sorted(maps.Keys(c.Pools)) {
		slots := c.Pools[pool]
		errs = append(errs, messages.CheckPool(pool))
		if !(slots >= 0.001 && slots <= 10_000) {
			bad("pools: %v slots in pool %s are out of range", slots, pool)
		}
	}
	if c.State == "" {
		bad("state: no folder is set")
	}
	if c.LeaseTTL < time.Second {
		bad("lease_ttl is %s; a second is the least", c.LeaseTTL)
	}
	if c.StopGrace < 0 || c.Drain < 0 || c.StageWait < 0 {
		bad("stop_grace, drain and stage_wait must not be negative")
	}
	l := c.Limits
	if !(l.CPUs > 0) || l.Memory < minMemory || l.Processes < 1 || l.Disk < 1 || l.Time <= 0 {
		bad("limits: each needs a value above zero, and memory at least %d MiB", minMemory>>20)
	}
	if c.LogBytes < 4096 {
		bad("log_bytes is %d; 4096 is the least", c.LogBytes)
	}
	if c.UID <= 0 || c.GID <= 0 {
		bad("user %d:%d: containers do not run as root", c.UID, c.GID)
	}
	return errors.Join(errs...)
}

// Ports are what a worker works with.
type Ports struct {
	Inboxes  map[string]Inbox // by pool
	Outbox   Outbox
	Leases   Leases
	Fleet    Fleet
	Verdicts Verdicts
	Controls Controls
	Runtime  Runtime
	Staging  *staging.Area
	Log      zerolog.Logger
}
