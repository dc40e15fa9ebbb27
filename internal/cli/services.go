package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"sluice/internal/registry"
	"sluice/jetstream"
	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/planner"
	"sluice/worker"
	"sluice/worker/docker"
	"sluice/worker/staging"
)

// newPlanner introduces a planner to the server and to git.
func newPlanner(c *jetstream.Conn, cfg planner.Config, src *source, outputs planner.Outputs, log zerolog.Logger) (*planner.Planner, error) {
	tuneThreads()
	ports := planner.Ports{
		Requests: c.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner", jetstream.MakingRoom()),
		Events:   c.Queue(jetstream.Events, jetstream.PlannerConsumer, "planner", jetstream.Concurrently(eventsAtOnce), jetstream.InOrder(eventJob)),
		Outbox:   c, Actions: c, Files: c, Dead: c, Room: c, Controls: c, Line: c, Source: src, Outputs: outputs,
		Jobs: c.JobsRegister(), Latest: c.LatestRegister(), Plans: c.PlansRegister(), Commits: c.CommitsRegister(),
		Leases: c.LeasesRegister(), Leader: c.LeaderRegister(), Workers: c.PresenceRegister(), Settings: c.SettingsRegister(),
	}
	if src.reusable != "" {
		ports.Reusable = src
	}
	if src.registry != nil {
		ports.Images = pins{src.registry}
	}
	return planner.New(cfg, ports, log.With().Str("service", "planner").Logger())
}

// eventsAtOnce is how many events a planner has in hand: it writes what they
// come to together.
const eventsAtOnce = 128

// eventJob names the job of an event, whose events are to be taken in order.
func eventJob(subject string) string {
	place, err := messages.ParseSubject(subject)
	if err != nil {
		return subject
	}
	return place.Backend + "/" + string(place.Job)
}

// A workerSetup is what newWorker puts together.
type workerSetup struct {
	config  worker.Config
	runtime worker.Runtime // nil: the Docker Engine
	docker  docker.Config
	staging staging.Config
	code    staging.Code
	waits   bool // for an engine that does not answer yet
}

// A lateEngine is one that need not answer when its worker starts: until it
// does, the worker keeps what it has and takes nothing.
type lateEngine struct {
	worker.Runtime
	area *staging.Area
}

// Check also asks what could not be asked at the start.
func (e lateEngine) Check(ctx context.Context) error {
	if err := e.Runtime.Check(ctx); err != nil {
		return err
	}
	return e.area.Ready()
}

// newWorker introduces a worker to the server, the engine and git. The engine
// must answer by then, unless the worker is one that waits.
func newWorker(ctx context.Context, c *jetstream.Conn, s workerSetup, log zerolog.Logger) (*worker.Worker, func() error, error) {
	tuneThreads()
	log = log.With().Str("service", "worker").Logger()
	s.docker.Log, s.staging.Log = log, log
	runtime, closeRuntime := s.runtime, func() error { return nil }
	away := false // the engine, and it would be asked in vain
	if runtime == nil {
		engine, err := docker.New(s.docker)
		if err != nil {
			return nil, nil, err
		}
		runtime, closeRuntime = engine, engine.Close
		s.staging.Sees = func(path string) (bool, error) {
			if away {
				return false, staging.ErrLater
			}
			seen, err := engine.Sees(ctx, path)
			if s.waits && errors.Is(err, docker.ErrAway) {
				err = fmt.Errorf("%w (%w)", err, staging.ErrLater)
			}
			return seen, err
		}
	}
	w, err := func() (*worker.Worker, error) {
		err := runtime.Check(ctx)
		away = s.waits && errors.Is(err, docker.ErrAway)
		if err != nil && !away {
			return nil, err
		}
		area, err := staging.Open(s.staging, s.code)
		if err != nil {
			return nil, err
		}
		if away = false; s.waits {
			runtime = lateEngine{runtime, area}
		}
		inboxes := map[string]worker.Inbox{}
		for pool := range s.config.Pools {
			inboxes[pool] = c.Queue(jetstream.Actions, jetstream.WorkerConsumer(s.config.Backend, pool), "worker "+s.config.Name)
		}
		return worker.New(s.config, worker.Ports{
			Inboxes: inboxes, Outbox: c, Leases: c.LeasesRegister(), Fleet: c, Runtime: runtime, Staging: area, Log: log,
			Verdicts: jetstream.Verdicts{Conn: c, Backend: s.config.Backend},
			Controls: jetstream.Controls{Conn: c, Backend: s.config.Backend, Worker: s.config.Name},
		})
	}()
	if err != nil {
		return nil, nil, errors.Join(err, closeRuntime())
	}
	return w, closeRuntime, nil
}

// newPersister introduces a persister to the server and the tiers.
func newPersister(c *jetstream.Conn, cfg persister.Config, tiers disk.Config, log zerolog.Logger) (*persister.Persister, func() error, error) {
	store, err := disk.Open(tiers)
	if err != nil {
		return nil, nil, err
	}
	p, err := persisterOf(c, cfg, store, log)
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return p, store.Close, nil
}

// persisterOf introduces a persister to the server and a store.
func persisterOf(c *jetstream.Conn, cfg persister.Config, store persister.Store, log zerolog.Logger) (*persister.Persister, error) {
	tuneThreads()
	turns := persister.NewTurns(cfg.Copies)
	return persister.New(cfg, persister.Ports{
		Queue: c.Queue(jetstream.Files, jetstream.PersisterConsumer(cfg.Backend), "persister", jetstream.Concurrently(cfg.Concurrency), jetstream.Asking(turns.Room)),
		Turns: turns, Outbox: c, Jobs: c.JobsRegister(), Plans: c.PlansRegister(), Commits: c.CommitsRegister(), Store: store,
	}, log.With().Str("service", "persister").Logger())
}

// leaseFlags say for how long a worker may be silent. Planner and workers must
// agree on the time to live.
type leaseFlags struct {
	LeaseTTL time.Duration `name:"lease-ttl" help:"Time to live of a worker's claim, renewed every quarter of it; the same for the planner and all workers." default:"60s" env:"SLUICE_LEASE_TTL" group:"Leases"`
}

type graceFlags struct {
	LeaseGrace time.Duration `name:"lease-grace" help:"How long an expired claim can still be taken up again before its attempt is given up; at least the time to live." default:"120s" env:"SLUICE_LEASE_GRACE" group:"Leases"`
}

type plannerCommand struct {
	natsFlags
	gitFlags
	plannerFlags
	leaseFlags
	graceFlags
	Name     string `help:"Name of this planner." env:"SLUICE_NAME"`
	Registry string `name:"image-registry" help:"Registry, such as ghcr.io/opensafely-core/, that is asked what the name of an image stands for when a job is planned: each attempt runs that very image. Without it, an attempt runs what the name stands for when it starts." env:"SLUICE_IMAGE_REGISTRY"`
}

// Run plans until it is stopped.
func (cmd *plannerCommand) Run(a *app) error {
	if cmd.Mirrors == "" {
		return usagef("set --mirrors or SLUICE_MIRRORS: the folder of the mirrors of repositories")
	}
	src := cmd.source("", "", "jobrunner-ctrl") // upstream's names
	cfg, err := cmd.config()
	if err != nil {
		return err
	}
	if cmd.Registry != "" {
		if src.registry, err = registry.Parse(cmd.Registry); err != nil {
			return exit(ExitUsage, err)
		}
	}
	cfg.LeaseTTL, cfg.LeaseGrace = cmd.LeaseTTL, cmd.LeaseGrace
	if cfg.Name = cmd.Name; cfg.Name == "" {
		cfg.Name = fmt.Sprintf("%s-%d", worker.HostName(), os.Getpid())
	}
	c, err := cmd.service(a, "planner", topologyOf(cmd.Backends))
	if err != nil {
		return a.stopped(err)
	}
	defer c.Close()
	p, err := newPlanner(c, cfg, src, nil, a.log)
	if err != nil {
		return exit(ExitUsage, err)
	}
	a.log.Info().Strs("backends", cfg.Backends).Msg("planner starts")
	return a.stopped(p.Run(a.ctx))
}

type workerCommand struct {
	natsFlags
	gitFlags
	storageFlags
	workerFlags
	leaseFlags
	parkedFlags
	Backend string `help:"Backend whose actions are taken." required:"" env:"BACKEND"`
	Name    string `help:"Name of this worker: stable over restarts, unique in its backend." env:"SLUICE_NAME"`
	State   string `help:"Folder of this worker's journal and cache." required:"" type:"path" env:"SLUICE_STATE"`
}

// Run takes actions until it is stopped.
func (cmd *workerCommand) Run(a *app) error {
	if err := cmd.require(false); err != nil {
		return exit(ExitUsage, err)
	}
	if cmd.Name == "" {
		cmd.Name = worker.HostName()
	}
	cfg, err := cmd.config(cmd.Name, cmd.Backend, cmd.State)
	if err != nil {
		return exit(ExitUsage, err)
	}
	cfg.LeaseTTL = cmd.LeaseTTL
	group, err := groupID(cmd.Group)
	if err != nil {
		return exit(ExitUsage, err)
	}
	src := cmd.source(filepath.Join(cmd.State, "mirrors"), "", "jobrunner-"+cmd.Backend)
	c, err := cmd.service(a, "worker "+cmd.Name, nil)
	if err != nil {
		return a.stopped(err)
	}
	defer c.Close()
	high, engine := cmd.High, cmd.docker(cmd.Name, cmd.State)
	engine.Parked = cmd.Parked
	stage := cmd.stagingConfig(cfg, func(ws string) string { return filepath.Join(high, ws) }, filepath.Join(high, "logs"), cmd.Staging, cmd.State)
	stage.Group, stage.Archives = max(group, 0), cmd.archives()
	w, closeRuntime, err := newWorker(a.ctx, c, workerSetup{config: cfg, docker: engine, code: src, staging: stage, waits: true}, a.log)
	if err != nil {
		return a.stopped(err)
	}
	return a.stopped(errors.Join(w.Run(a.ctx, a.abort), closeRuntime()))
}

func (f workerFlags) docker(name, state string) docker.Config {
	// Two workers of one name on one engine, such as those of two fleets that are
	// tried out on one machine, must not sweep each other's containers.
	d := docker.DefaultConfig(name+"-"+pathHash(state), state)
	d.ImagePrefix, d.Pull, d.Timeout = f.ImagePrefix, !f.NoPull, f.Engine
	return d
}

func (f workerFlags) stagingConfig(cfg worker.Config, high func(string) string, records, root, cache string) staging.Config {
	return staging.Config{Worker: cfg.Name, Root: root, Cache: cache, High: high, Records: records, UID: cfg.UID, GID: cfg.GID, Kept: int64(f.KeepInputs), Failed: f.KeepFailed, Copy: f.NoOverlay}
}

type persisterCommand struct {
	natsFlags
	storageFlags
	tierFlags
	keepFlags
	Backend string `help:"Backend whose files are persisted." required:"" env:"BACKEND"`
	MaxRows int    `help:"Rows that a moderately sensitive .csv file may have." default:"5000" env:"LEVEL4_MAX_CSV_ROWS" group:"Checks"`
	MaxSize int64  `help:"Bytes that a moderately sensitive file may have." default:"16777216" env:"LEVEL4_MAX_FILESIZE" group:"Checks"`
}

// Run persists files until it is stopped.
func (cmd *persisterCommand) Run(a *app) error {
	if err := cmd.require(true); err != nil {
		return exit(ExitUsage, err)
	}
	cfg := persister.DefaultConfig()
	cfg.Backend, cfg.Checks.MaxRows, cfg.Checks.MaxSize = cmd.Backend, cmd.MaxRows, cmd.MaxSize
	cfg.FailedAside, cfg.DeleteObsolete = cmd.FailedAside, cmd.DeleteObsolete
	tiers, err := cmd.disk(cmd.tierFlags)
	if err != nil {
		return exit(ExitUsage, err)
	}
	c, err := cmd.service(a, "persister "+cmd.Backend, nil)
	if err != nil {
		return a.stopped(err)
	}
	defer c.Close()
	p, closeStore, err := newPersister(c, cfg, tiers, a.log)
	if err != nil {
		return exit(ExitUsage, err)
	}
	warnOpenTiers(a.log, tiers)
	a.log.Info().Str("backend", cmd.Backend).Msg("persister starts")
	return a.stopped(errors.Join(p.Run(a.ctx), closeStore()))
}

// service connects a service, and has it say at the start what differs on the
// server: only `sluice topology --apply` changes it.
func (f natsFlags) service(a *app, name string, backends map[string][]string) (*jetstream.Conn, error) {
	c, err := f.connect(a.ctx, "sluice "+name, a.log)
	if err != nil || backends == nil {
		return c, err
	}
	diffs, err := c.Check(a.ctx, jetstream.Topology{Backends: backends, Replicas: 1, Store: defaultStore})
	if err != nil {
		a.log.Warn().Err(err).Msg("the server's streams could not be checked")
		return c, nil
	}
	missing := 0
	for _, d := range diffs {
		if d.Have == "missing" {
			missing++
			a.log.Error().Str("what", d.What).Msg("missing on the server")
		}
	}
	if missing > 0 {
		c.Close()
		return nil, fmt.Errorf("%d streams, registers or consumers are missing on the server: run `sluice topology --apply`", missing)
	}
	return c, nil
}

// topologyOf gives each backend the pools that the planner sends actions to.
func topologyOf(backends []string) map[string][]string {
	m := map[string][]string{}
	for _, b := range backends {
		m[b] = []string{defaultPool, databasePool}
	}
	return m
}

// defaultStore is what the streams may take together, in bytes.
const defaultStore = 10 << 30

// together runs services until ctx ends or one of them fails, which stops the
// others.
func together(ctx context.Context, services ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, s := range services {
		group.Go(func() error { return s(ctx) })
	}
	return group.Wait()
}
