package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"sluice/internal/spread"
	"sluice/jetstream"
	"sluice/persister"
	"sluice/worker"
)

type upCommand struct {
	gitFlags
	storageFlags
	tierFlags
	keepFlags
	workerFlags
	parkedFlags
	plannerFlags
	Dir     string   `help:"Folder of all that the fleet keeps." default:"sluice-data" type:"path" env:"SLUICE_DIR"`
	Listen  string   `help:"Address on which clients and the nats command line reach the server; port 0 for any." default:"127.0.0.1:4222" env:"SLUICE_LISTEN"`
	Backend string   `help:"The backend of this fleet's worker." default:"test" env:"BACKEND"`
	Store   byteSize `help:"What the server's streams may take together." default:"10G" env:"SLUICE_STORE"`
	URLFile string   `help:"Write the server's URL into this file once the fleet is ready." type:"path"`
}

// Run runs a server, a planner, a worker and a persister until it is stopped.
func (cmd *upCommand) Run(a *app) (err error) {
	if err := checkEngine(a.ctx); err != nil {
		return err
	}
	if err := makeDataDir(cmd.Dir); err != nil {
		return err
	}
	server, err := jetstream.Serve(jetstream.ServerOptions{Name: "sluice-up", StoreDir: filepath.Join(cmd.Dir, "nats"), Listen: cmd.Listen, MaxStore: int64(cmd.Store), Log: a.log})
	if err != nil {
		return err
	}
	defer server.Stop()
	// The connection outlives the signal: what is in hand is finished over it.
	c, err := jetstream.Connect(context.WithoutCancel(a.ctx), jetstream.Options{Server: server, Name: "sluice up", Log: a.log})
	if err != nil {
		return err
	}
	defer c.Close()
	backends := cmd.Backends
	if !slices.Contains(backends, cmd.Backend) {
		backends = append(backends, cmd.Backend)
	}
	if err := c.Provision(a.ctx, jetstream.Topology{Backends: topologyOf(backends), Replicas: 1, Store: int64(cmd.Store)}); err != nil {
		return err
	}
	services, closeAll, err := cmd.services(a, c, backends)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	a.log.Info().Str("nats", server.URL()).Str("backend", cmd.Backend).Str("dir", cmd.Dir).Msg("fleet is up; try: sluice ps --nats " + server.URL())
	if cmd.URLFile != "" {
		if err := writeWhole(cmd.URLFile, server.URL()+"\n"); err != nil {
			return err
		}
	}
	return together(a.ctx, services...)
}

// makeDataDir makes the folder of all that a fleet keeps, whose parts have
// nothing to do with one another: what the server makes and removes all the time
// must not be in the way of the tiers.
func makeDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the fleet's folder: %w", err)
	}
	spread.Mark(dir)
	return nil
}

func (cmd *upCommand) services(a *app, c *jetstream.Conn, backends []string) (list []func(context.Context) error, closeAll func() error, err error) {
	src := cmd.gitFlags.reusing(cmd.ImagePrefix).source(filepath.Join(cmd.Dir, "mirrors"), "", "jobrunner-"+cmd.Backend)
	flags := cmd.plannerFlags
	flags.Backends = backends
	plans, err := flags.config()
	if err != nil {
		return nil, nil, err
	}
	plans.Name = "up"
	p, err := newPlanner(c, plans, src, nil, a.log)
	if err != nil {
		return nil, nil, exit(ExitUsage, err)
	}
	state := filepath.Join(cmd.Dir, "worker")
	store := cmd.storageFlags.under(cmd.Dir)
	tiers, err := store.disk(cmd.tierFlags)
	if err != nil {
		return nil, nil, exit(ExitUsage, err)
	}
	cfg, err := cmd.workerFlags.config(worker.HostName(), cmd.Backend, state)
	if err != nil {
		return nil, nil, exit(ExitUsage, err)
	}
	if cmd.DBSlots == 0 {
		cfg.Pools[databasePool] = max(cmd.Slots, 1) // a fleet of one worker must be able to run everything
	}
	engine := cmd.docker(cfg.Name, state)
	engine.Parked = cmd.Parked
	stage := cmd.stagingConfig(cfg, func(ws string) string { return filepath.Join(store.High, ws) }, filepath.Join(store.High, "logs"), store.Staging, state)
	stage.Group, stage.Archives = max(tiers.Group, 0), store.archives()
	w, closeRuntime, err := newWorker(a.ctx, c, workerSetup{config: cfg, docker: engine, code: src, staging: stage}, a.log)
	if err != nil {
		return nil, nil, err
	}
	keep := persister.DefaultConfig()
	keep.Backend, keep.FailedAside, keep.DeleteObsolete = cmd.Backend, cmd.FailedAside, cmd.DeleteObsolete
	ps, closeStore, err := newPersister(c, keep, tiers, a.log)
	if err != nil {
		return nil, nil, errors.Join(err, closeRuntime())
	}
	warnOpenTiers(a.log, tiers)
	list = []func(context.Context) error{p.Run, ps.Run, func(ctx context.Context) error { return w.Run(ctx, a.abort) }}
	return list, func() error { return errors.Join(closeRuntime(), closeStore()) }, nil
}

// writeWhole writes a file that others wait for: it is there when it is whole.
func writeWhole(path, text string) error {
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil { //nolint:gosec // an address, for everybody
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.Rename(path+".new", path)
}
