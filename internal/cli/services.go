package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"sluice/jetstream"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/planner"
	"sluice/worker"
	"sluice/worker/docker"
	"sluice/worker/staging"
)

// newPlanner introduces a planner to the server and to git.
func newPlanner(c *jetstream.Conn, cfg planner.Config, src planner.Source, outputs planner.Outputs, log zerolog.Logger) (*planner.Planner, error) {
	return planner.New(cfg, planner.Ports{
		Requests: c.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner"),
		Events:   c.Queue(jetstream.Events, jetstream.PlannerConsumer, "planner"),
		Outbox:   c, Actions: c, Dead: c, Controls: c, Line: c, Source: src, Outputs: outputs,
		Jobs: c.JobsRegister(), Latest: c.LatestRegister(), Plans: c.PlansRegister(), Commits: c.CommitsRegister(),
		Leases: c.LeasesRegister(), Leader: c.LeaderRegister(), Workers: c.PresenceRegister(), Settings: c.SettingsRegister(),
	}, log.With().Str("service", "planner").Logger())
}

// A workerSetup is what newWorker puts together.
type workerSetup struct {
	config  worker.Config
	docker  docker.Config
	staging staging.Config
	code    staging.Code
}

// newWorker introduces a worker to the server, the engine and git. The engine
// must answer by then.
func newWorker(ctx context.Context, c *jetstream.Conn, s workerSetup, log zerolog.Logger) (*worker.Worker, func() error, error) {
	log = log.With().Str("service", "worker").Logger()
	s.docker.Log, s.staging.Log = log, log
	runtime, err := docker.New(s.docker)
	if err != nil {
		return nil, nil, err
	}
	w, err := func() (*worker.Worker, error) {
		if err := runtime.Check(ctx); err != nil {
			return nil, err
		}
		area, err := staging.Open(s.staging, s.code)
		if err != nil {
			return nil, err
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
		return nil, nil, errors.Join(err, runtime.Close())
	}
	return w, runtime.Close, nil
}

// newPersister introduces a persister to the server and the tiers.
func newPersister(c *jetstream.Conn, cfg persister.Config, tiers disk.Config, log zerolog.Logger) (*persister.Persister, func() error, error) {
	store, err := disk.Open(tiers)
	if err != nil {
		return nil, nil, err
	}
	p, err := persister.New(cfg, persister.Ports{
		Queue:  c.Queue(jetstream.Files, jetstream.PersisterConsumer(cfg.Backend), "persister"),
		Outbox: c, Jobs: c.JobsRegister(), Plans: c.PlansRegister(), Commits: c.CommitsRegister(), Store: store,
	}, log.With().Str("service", "persister").Logger())
	if err != nil {
		return nil, nil, errors.Join(err, store.Close())
	}
	return p, store.Close, nil
}

// plannerFlags are what an operator sets for a planner.
type plannerFlags struct {
	Backends  []string           `help:"Backends that requests may name." default:"test,tpp,emis" env:"BACKENDS" group:"Planner"`
	Databases []string           `help:"Databases that requests may name." default:"default" env:"SLUICE_DATABASES" group:"Planner"`
	Limits    map[string]float64 `name:"pool-limit" help:"Slots of a pool on a whole backend, as pool=slots." env:"SLUICE_POOL_LIMITS" group:"Planner"`
}

func (f plannerFlags) config() planner.Config {
	c := planner.DefaultConfig()
	c.Backends, c.Databases, c.PoolLimits = f.Backends, f.Databases, f.Limits
	return c
}

type plannerCommand struct {
	natsFlags
	gitFlags
	plannerFlags
	Name string `help:"Name of this planner." env:"SLUICE_NAME"`
}

// Run plans until it is stopped.
func (cmd *plannerCommand) Run(a *app) error {
	if cmd.Mirrors == "" {
		return usagef("set --mirrors or SLUICE_MIRRORS: the folder of the mirrors of repositories")
	}
	src := cmd.source("", "")
	cfg := cmd.config()
	if cfg.Name = cmd.Name; cfg.Name == "" {
		cfg.Name = fmt.Sprintf("%s-%d", worker.HostName(), os.Getpid())
	}
	c, err := cmd.service(a, "planner", topologyOf(cmd.Backends))
	if err != nil {
		return err
	}
	defer c.Close()
	p, err := newPlanner(c, cfg, src, nil, a.log)
	if err != nil {
		return exit(ExitUsage, err)
	}
	a.log.Info().Strs("backends", cfg.Backends).Msg("planner starts")
	return p.Run(a.ctx)
}

type workerCommand struct {
	natsFlags
	gitFlags
	storageFlags
	workerFlags
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
	src := cmd.source(filepath.Join(cmd.State, "mirrors"), "")
	c, err := cmd.service(a, "worker "+cmd.Name, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	high := cmd.High
	w, closeRuntime, err := newWorker(a.ctx, c, workerSetup{
		config: cfg, docker: cmd.docker(cmd.Name, cmd.State), code: src,
		staging: cmd.stagingConfig(cfg, func(ws string) string { return filepath.Join(high, ws) }, filepath.Join(high, "logs"), cmd.Staging, cmd.State),
	}, a.log)
	if err != nil {
		return err
	}
	return errors.Join(w.Run(a.ctx, a.abort), closeRuntime())
}

func (f workerFlags) docker(name, state string) docker.Config {
	// Two workers of one name on one engine, such as those of two fleets that are
	// tried out on one machine, must not sweep each other's containers.
	d := docker.DefaultConfig(name+"-"+pathHash(state), state)
	d.ImagePrefix, d.Pull = f.ImagePrefix, !f.NoPull
	return d
}

func (f workerFlags) stagingConfig(cfg worker.Config, high func(string) string, records, root, cache string) staging.Config {
	return staging.Config{Worker: cfg.Name, Root: root, Cache: cache, High: high, Records: records, UID: cfg.UID, GID: cfg.GID, Copy: f.NoOverlay}
}

type persisterCommand struct {
	natsFlags
	storageFlags
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
	c, err := cmd.service(a, "persister "+cmd.Backend, nil)
	if err != nil {
		return err
	}
	defer c.Close()
	p, closeStore, err := newPersister(c, cfg, cmd.disk(), a.log)
	if err != nil {
		return exit(ExitUsage, err)
	}
	a.log.Info().Str("backend", cmd.Backend).Msg("persister starts")
	return errors.Join(p.Run(a.ctx), closeStore())
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
