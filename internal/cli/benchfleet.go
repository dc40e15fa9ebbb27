package cli

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"sluice/internal/bench"
	"sluice/jetstream"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/worker"
)

// benchRunCommand runs parts of a fleet that runs no containers, for `sluice
// bench`: what is measured with it is all the rest. It is hidden: its actions
// do nothing.
type benchRunCommand struct {
	natsFlags
	gitFlags
	Parts   []string `help:"Parts to run: server, planner, worker, persister." default:"server,planner,worker,persister" enum:"server,planner,worker,persister"`
	Dir     string   `help:"Folder of all that the fleet keeps." required:"" type:"path"`
	Backend string   `help:"The backend." required:""`
	Slots   float64  `help:"Actions at once." default:"64"`
	NoSync  bool     `help:"Have the server sync nothing: for filling its store."`
	Tiers   bool     `help:"Persist into tiers on the disk; otherwise nothing is kept."`
	URLFile string   `help:"Write the server's URL into this file once all is ready." type:"path"`
}

// Run runs until it is stopped.
func (cmd *benchRunCommand) Run(a *app) (err error) {
	tuneThreads() // also where there is the server alone: what is beside ours has it, too
	var c *jetstream.Conn
	if err := makeDataDir(cmd.Dir); err != nil {
		return err
	}
	if cmd.has("server") {
		server, err := jetstream.Serve(jetstream.ServerOptions{Name: "sluice-bench", StoreDir: filepath.Join(cmd.Dir, "nats"), Listen: "127.0.0.1:0", MaxStore: defaultStore, NoSync: cmd.NoSync, Log: a.log})
		if err != nil {
			return err
		}
		defer server.Stop()
		cmd.URL = server.URL()
	}
	if c, err = cmd.connect(context.WithoutCancel(a.ctx), "sluice bench-fleet", a.log); err != nil {
		return err
	}
	defer c.Close()
	if cmd.has("server") {
		if err := c.Provision(a.ctx, jetstream.Topology{Backends: topologyOf([]string{cmd.Backend}), Replicas: 1, Store: defaultStore}); err != nil {
			return err
		}
	}
	services, closeAll, err := cmd.services(a, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	if err := writeWhole(cmd.URLFile, cmd.URL+"\n"); err != nil {
		return err
	}
	return together(a.ctx, append(services, func(ctx context.Context) error { <-ctx.Done(); return nil })...)
}

func (cmd *benchRunCommand) has(part string) bool { return slices.Contains(cmd.Parts, part) }

func (cmd *benchRunCommand) services(a *app, c *jetstream.Conn) (list []func(context.Context) error, closeAll func() error, err error) {
	src := cmd.source(filepath.Join(cmd.Dir, "mirrors"), "", "")
	store := storageFlags{}.under(cmd.Dir)
	closeAll = func() error { return nil }
	if cmd.has("planner") {
		plans, err := plannerFlags{Backends: []string{cmd.Backend}, Databases: []string{"default"}, Attempts: 3}.config()
		if err != nil {
			return nil, nil, err
		}
		plans.Name = "bench"
		p, err := newPlanner(c, plans, src, nil, a.log)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, p.Run)
	}
	if cmd.has("worker") {
		state := filepath.Join(cmd.Dir, "worker")
		cfg := worker.DefaultConfig()
		cfg.Name, cfg.Backend, cfg.State, cfg.Pools = "bench", cmd.Backend, state, map[string]float64{defaultPool: cmd.Slots}
		w, _, err := newWorker(a.ctx, c, workerSetup{
			config: cfg, runtime: bench.Noop{}, code: src,
			staging: workerFlags{}.stagingConfig(cfg, func(ws string) string { return filepath.Join(store.High, ws) }, filepath.Join(store.High, "logs"), store.Staging, state),
		}, a.log)
		if err != nil {
			return nil, nil, err
		}
		list = append(list, func(ctx context.Context) error { return w.Run(ctx, a.abort) })
	}
	if cmd.has("persister") {
		keep := persister.DefaultConfig()
		keep.Backend = cmd.Backend
		var tiers persister.Store = bench.NoStore{}
		if cmd.Tiers {
			opened, err := disk.Open(disk.Default(store.Staging, store.High, store.Medium))
			if err != nil {
				return nil, nil, err
			}
			tiers, closeAll = opened, opened.Close
		}
		ps, err := persisterOf(c, keep, tiers, a.log)
		if err != nil {
			return nil, nil, errors.Join(err, closeAll())
		}
		list = append(list, ps.Run)
	}
	return list, closeAll, nil
}
