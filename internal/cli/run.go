package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/planner"
	"sluice/planner/project"
)

// localBackend is the backend of `sluice run`, as upstream's command line
// names it to actions.
const localBackend = "expectations"

type runCommand struct {
	outputFlags
	workerFlags
	Actions []string `arg:"" optional:"" help:"Actions to run; all of the project's if none is named."`
	Force   bool     `name:"force-run-dependencies" short:"f" help:"Run what the actions need again, though it has succeeded."`
	Dir     string   `name:"project-dir" help:"Folder of the study." default:"." type:"path"`
	Verbose bool     `help:"Show what the services log."`
}

// Run does everything in this process: server, planner, worker, persister.
func (cmd *runCommand) Run(a *app) error {
	folder, err := filepath.EvalSymlinks(cmd.Dir)
	if err != nil {
		return usagef("%s is not a folder: %w", cmd.Dir, err)
	}
	data, err := readProject(filepath.Join(folder, "project.yaml"))
	if err != nil {
		return usagef("%w; go to the folder of a study, or name it with --project-dir", detail(err))
	}
	if report := project.Check("project.yaml", data); !report.Valid {
		fmt.Fprint(a.stderr, report.Text())
		return exit(ExitUsage, nil)
	}
	wanted, err := cmd.wanted(data)
	if err != nil {
		return err
	}
	log := zerolog.Nop()
	if cmd.Verbose {
		log = a.log
	}
	s, err := cmd.open(a, folder, log)
	if err != nil {
		return err
	}
	defer s.close()
	return s.run(a, cmd, wanted)
}

// wanted is the actions to ask for. Names that the project does not have are
// said with those that it has.
func (cmd *runCommand) wanted(data []byte) ([]string, error) {
	p, problems := project.Parse(data)
	if len(problems) > 0 {
		return nil, exit(ExitUsage, problems)
	}
	if len(cmd.Actions) == 0 {
		return []string{messages.RunAll}, nil
	}
	for _, name := range cmd.Actions {
		if name == messages.RunAll || p.Action(name) != nil {
			continue
		}
		var valid strings.Builder
		for _, action := range p.Actions {
			fmt.Fprintf(&valid, "\n  %s", progress.Clean(action.Name))
		}
		return nil, usagef("Action '%s' not found in project.yaml\nValid action names are:\n  %s (runs all actions in project)%s", progress.Clean(name), messages.RunAll, valid.String())
	}
	return cmd.Actions, nil
}

// A study is a whole fleet in one process, on a study's folder.
type study struct {
	folder    string
	workspace string
	server    *jetstream.Server
	conn      *jetstream.Conn
	services  []func(context.Context) error
	closers   []func() error
}

// open checks the engine, then starts the server and builds the services.
func (cmd *runCommand) open(a *app, folder string, log zerolog.Logger) (_ *study, err error) {
	own := filepath.Join(folder, ".sluice")
	s := &study{folder: folder, workspace: workspaceOf(folder)}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := checkEngine(a.ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(own, 0o755); err != nil {
		return nil, fmt.Errorf("make %s: %w", own, err)
	}
	if err := os.WriteFile(filepath.Join(own, ".gitignore"), []byte("*\n"), 0o644); err != nil { //nolint:gosec // part of the study's folder
		return nil, fmt.Errorf("make %s: %w", own, err)
	}
	s.server, err = jetstream.Serve(jetstream.ServerOptions{Name: "sluice-run", StoreDir: filepath.Join(own, "nats"), MaxStore: runStore, Log: log})
	if err != nil {
		return nil, err
	}
	s.conn, err = jetstream.Connect(a.ctx, jetstream.Options{Server: s.server, Name: "sluice run", Log: log})
	if err != nil {
		return nil, err
	}
	topology := jetstream.Topology{Backends: map[string][]string{localBackend: {defaultPool}}, Replicas: 1, Store: runStore}
	if err := s.conn.Provision(a.ctx, topology); err != nil {
		return nil, err
	}
	return s, cmd.build(a, s, own, log)
}

// runStore bounds what a study's own server keeps, in bytes.
const runStore = 1 << 30

// build puts the services together.
func (cmd *runCommand) build(a *app, s *study, own string, log zerolog.Logger) error {
	src := gitFlags{}.reusing(cmd.ImagePrefix).source(filepath.Join(own, "mirrors"), s.folder, "")
	plans := planner.DefaultConfig()
	plans.Name, plans.Backends, plans.WorkingFolder, plans.DatabasePool = "run", []string{localBackend}, true, defaultPool
	plans.SourceGiveUp = plans.SourceWait // whoever typed the command is there to type it again
	cfg, err := cmd.config("run", localBackend, filepath.Join(own, "worker"))
	if err != nil {
		return exit(ExitUsage, err)
	}
	cfg.Pools = map[string]float64{defaultPool: max(cmd.Slots, 0.001)}
	tiers := disk.Study(s.folder, filepath.Join(own, "staging"))
	if cfg.UID != os.Geteuid() {
		tiers.Rename = false // what a container's user owns is copied, so that it becomes this user's
	}
	// This is the only planner here: after a kill, the next one need not wait long
	// for the leader's key of the last.
	plans.LeaderTTL, plans.LeaderRenew = 2*time.Second, 500*time.Millisecond
	p, err := newPlanner(s.conn, plans, src, folderOutputs{folder: s.folder, records: tiers.Logs}, log)
	if err != nil {
		return err
	}
	if owner, group, ok := folderOwner(s.folder); ok {
		tiers.Owner, tiers.Group = owner, group
	}
	stage := cmd.stagingConfig(cfg, func(string) string { return s.folder }, tiers.Logs, tiers.Staging, cfg.State)
	stage.Public = true // the folder says who may look into it
	w, closeRuntime, err := newWorker(a.ctx, s.conn, workerSetup{config: cfg, docker: cmd.docker(cfg.Name, cfg.State), code: src, staging: stage}, log)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, closeRuntime)
	keep := persister.DefaultConfig()
	keep.Backend = localBackend
	ps, closeStore, err := newPersister(s.conn, keep, tiers, log)
	if err != nil {
		return err
	}
	s.closers = append(s.closers, closeStore)
	s.services = []func(context.Context) error{
		p.Run, ps.Run, func(ctx context.Context) error { return w.Run(ctx, a.abort) },
	}
	return nil
}

func (s *study) close() {
	for i := len(s.closers) - 1; i >= 0; i-- {
		_ = s.closers[i]() // at the end of the process
	}
	if s.conn != nil {
		s.conn.Close()
	}
	if s.server != nil {
		s.server.Stop()
	}
}

// run asks for the actions and follows them to their end, while the services
// work. The first interrupt cancels what is asked for.
func (s *study) run(a *app, cmd *runCommand, wanted []string) error {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(a.ctx))
	defer stop(nil)
	working := make(chan error, 1)
	go func() {
		err := together(ctx, s.services...)
		stop(errors.Join(err, errInterrupted)) // a service that fails ends the wait
		working <- err
	}()
	err := s.request(ctx, a, cmd, wanted)
	stop(nil)
	return errors.Join(err, <-working)
}

func (s *study) request(ctx context.Context, a *app, cmd *runCommand, wanted []string) error {
	began := time.Now()
	if err := s.cancelLeftovers(ctx); err != nil {
		return err
	}
	r := &messages.Request{
		ID: messages.RequestID("run-" + ulid.Make().String()), Backend: localBackend, Workspace: s.workspace,
		Source: workingFolder(s.folder), Actions: wanted, ForceRunDependencies: cmd.Force,
	}
	if err := s.conn.Publish(ctx, r.Subject(), r, "request/"+string(r.ID)); err != nil {
		return err
	}
	unlink := context.AfterFunc(a.ctx, func() {
		fmt.Fprintln(a.stderr, "sluice: interrupted: cancelling what runs (again to leave at once)")
		c := &messages.Cancel{Request: r.ID, Backend: r.Backend, Workspace: r.Workspace, By: "interrupt"}
		if err := s.conn.Publish(ctx, c.Subject(), c, ""); err != nil {
			a.log.Error().Err(err).Msg("the request could not be cancelled")
		}
	})
	defer unlink()
	plan, err := awaitPlan(ctx, s.conn, r)
	if err != nil {
		return err
	}
	if plan.Code != "" {
		return a.rejected(plan, cmd.JSON)
	}
	print, printed := cmd.printer(a)
	print.Planned(plan)
	leave, left := context.WithCancelCause(ctx)
	defer left(nil)
	go func() {
		select {
		case <-a.abort:
			left(exit(ExitCancelled, nil))
		case <-leave.Done():
		}
	}()
	jobs, err := follower{conn: s.conn, plan: plan, print: print}.follow(leave)
	if err != nil {
		printed()
		return err
	}
	summary := progress.Summary{Plan: plan, Jobs: jobs, Took: time.Since(began), Tail: s.tail, LogPath: s.logPath, Folders: []progress.Folder{
		{What: "outputs", Path: s.folder},
		{What: "moderately sensitive outputs, as an output checker gets them", Path: filepath.Join(s.folder, ".sluice", "medium", s.workspace)},
		{What: "logs", Path: filepath.Join(s.folder, "metadata")},
	}}
	print.Ended(summary)
	printed()
	return verdict(summary)
}

// cancelLeftovers ends what an earlier run of this folder, killed before its
// end, left waiting or running.
func (s *study) cancelLeftovers(ctx context.Context) error {
	open := map[messages.RequestID]bool{}
	err := s.conn.JobsRegister().All(ctx, messages.Token(localBackend)+"."+messages.Token(s.workspace)+".*", func(e messages.Entry[messages.Job]) {
		if !e.Value.State.Final() {
			open[e.Value.Request] = true
		}
	})
	if err != nil {
		return fmt.Errorf("look for what an earlier run left: %w", err)
	}
	for id := range open {
		c := &messages.Cancel{Request: id, Backend: localBackend, Workspace: s.workspace, By: "a later run"}
		if err := s.conn.Publish(ctx, c.Subject(), c, ""); err != nil {
			return err
		}
	}
	return nil
}

// detail returns what a Failure says, without its code.
func detail(err error) error {
	var f *messages.Failure
	if errors.As(err, &f) {
		return errors.New(f.Detail)
	}
	return err
}

// workspaceOf makes a workspace's name of a folder's.
func workspaceOf(folder string) string {
	name := strings.Map(func(r rune) rune {
		if messages.CheckWorkspace(string(r)) == nil {
			return r
		}
		return '_'
	}, filepath.Base(folder))
	return name[:min(len(name), messages.MaxNameLength)]
}
