package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	"sluice/worker"
)

// startParked hands an attempt to a container that waits, if there is one. What
// goes wrong with that costs the container that waits, never the attempt.
func (r *Runtime) startParked(spec worker.Spec) *box {
	if r.parking == nil {
		return nil
	}
	c, facts, ok := r.classOf(spec)
	if !ok || len(spec.Args)+len(facts.entrypoint)+len(facts.cmd) == 0 {
		return nil
	}
	s := r.parking.take(c)
	r.parking.refillLater(c)
	if s == nil {
		return nil
	}
	b, err := s.become(spec, facts)
	if err == nil {
		return b
	}
	r.cfg.Log.Warn().Err(err).Str("job", string(spec.Attempt.Job)).Msg("a container that waits could not be used; one is made")
	r.parking.discard(s)
	return nil
}

// newMark returns a line that no action can have printed.
func newMark() string { return "sluice-end-of-log-" + randomHex(16) + "\n" }

func value(exit *worker.Exit) worker.Exit {
	if exit == nil {
		return worker.Exit{}
	}
	return *exit
}

// waitParked waits for the end of a container that was started in advance, by
// its first process where that is known; without an exit the engine is asked.
func (b *box) waitParked(ctx context.Context) (*worker.Exit, error) {
	select {
	case b.one <- struct{}{}:
		defer func() { <-b.one }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if b.nameless {
		b.nameless = false
		b.nameLater()
	}
	b.mu.Lock()
	exit := b.exit
	b.mu.Unlock()
	if exit != nil || b.slot == nil {
		return exit, nil
	}
	seen, err := b.slot.see(ctx, b.taken)
	b.learn(seen.toll)
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil || !seen.known || !b.r.answers(ctx):
		return nil, nil
	}
	b.keepExit(seen.exit)
	b.mu.Lock()
	b.exit = &seen.exit
	b.mu.Unlock()
	return &seen.exit, nil
}

// answers reports whether the engine can be reached. One that stops closes its
// door before it ends its containers: while it answers, an end was not its
// work.
func (r *Runtime) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	_, err := r.cli.Ping(ctx)
	return err == nil
}

// recordedParked is the record of a container that was started in advance, with
// what it became.
func (b *box) recordedParked(ctx context.Context, record *container.InspectResponse, exit *worker.Exit) (found container.InspectResponse, err error) {
	switch {
	case record != nil:
		found = *record
	case exit != nil && b.slot != nil:
		found = b.slot.record // the engine has not taken note of the end yet
	default:
		if found, err = b.r.inspect(ctx, b.id); err != nil {
			return found, err
		}
	}
	base, config, state := *found.ContainerJSONBase, *found.Config, *found.State
	base.Name = "/" + b.r.name(b.attempt)
	base.State = &state
	config.Entrypoint, config.Cmd, config.Env, config.WorkingDir = nil, b.taken.Args, b.taken.Env, "/workspace"
	config.Labels = map[string]string{
		labelJob: string(b.attempt.Job), labelAttempt: strconv.Itoa(b.attempt.Number), labelWorkspace: b.taken.Workspace, labelAction: b.taken.Action,
	}
	for k, v := range found.Config.Labels {
		config.Labels[k] = v
	}
	if exit != nil {
		state.Status, state.Running, state.Pid, state.ExitCode, state.OOMKilled = container.StateExited, false, 0, exit.Code, exit.OOMKilled
		state.StartedAt, state.FinishedAt = exit.Started.Format(time.RFC3339Nano), exit.Finished.Format(time.RFC3339Nano)
	}
	found.ContainerJSONBase, found.Config = &base, &config
	return found, nil
}

// removeParked removes a container that was started in advance, and makes up
// for it.
func (b *box) removeParked(ctx context.Context) error {
	b.mu.Lock()
	seen, unname := b.exit != nil, b.unname
	b.mu.Unlock()
	if unname != nil {
		unname(ctx)
	}
	if seen {
		// The engine is about to take note of the end: to kill it now would only
		// take longer.
		soon, cancel := context.WithTimeout(ctx, 5*time.Second)
		over, failed := b.r.cli.ContainerWait(soon, b.id, container.WaitConditionNotRunning)
		select {
		case <-over:
		case <-failed:
		}
		cancel()
	}
	if err := b.remove(ctx); err != nil {
		return err
	}
	if b.slot != nil {
		b.slot.release()
		if b.r.parking != nil {
			b.r.parking.refill(b.slot.class)
		}
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("remove container's files: %w", err)
	}
	return nil
}

// adopt returns what a container that was started in advance became, or nil if
// it became nothing. Its name decides nothing.
func (r *Runtime) adopt(c container.Summary) *box {
	dir, ok := r.slotDir(c.Labels[labelParked])
	if !ok {
		return nil
	}
	t := &taken{}
	if readJSON(filepath.Join(dir, "taken.json"), t) != nil || t.Attempt.Job.Check() != nil {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(dir, waitDir, filepath.Base(fifoArg))); !errors.Is(err, os.ErrNotExist) {
		return nil // the command was not handed over
	}
	b := &box{r: r, id: c.ID, attempt: t.Attempt, dir: dir, taken: t, one: make(chan struct{}, 1)}
	exit := &worker.Exit{}
	if readJSON(filepath.Join(dir, "exit.json"), exit) == nil {
		b.exit = exit // whether or not the engine has taken note
	}
	ours := r.parking != nil && filepath.Dir(dir) == r.parking.dir
	b.nameless = !ours && c.State == container.StateRunning && !slices.Contains(c.Names, "/"+r.name(t.Attempt))
	return b
}

// slotDir is the folder that a label names.
func (r *Runtime) slotDir(label string) (string, bool) {
	epoch, n, ok := strings.Cut(label, ".")
	if number, err := strconv.Atoi(n); !ok || err != nil || strconv.Itoa(number) != n || len(epoch) != 16 || strings.Trim(epoch, "0123456789abcdef") != "" || r.cfg.Dir == "" {
		return "", false
	}
	return filepath.Join(r.parked(), epoch, n), true
}

// sweep takes away what dead processes of this worker started in advance: the
// containers that were not used, and the folders that no container has.
func (r *Runtime) sweep(ctx context.Context, boxes []worker.Container, left []container.Summary) error {
	if r.cfg.Dir == "" {
		return nil
	}
	entries, err := os.ReadDir(r.parked())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("sweep containers: %w", err)
	}
	alive, used := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		alive[e.Name()] = r.held(e.Name())
	}
	for _, b := range boxes {
		used[b.(*box).dir] = true
	}
	for _, c := range left {
		label := c.Labels[labelParked]
		if epoch, _, _ := strings.Cut(label, "."); alive[epoch] && (r.parking == nil || !r.parking.isLost(label)) {
			continue
		}
		if err := r.remove(ctx, c.ID); err != nil {
			return fmt.Errorf("sweep containers: %w", err)
		}
	}
	for epoch, held := range alive {
		if !held {
			r.sweepFolder(filepath.Join(r.parked(), epoch), used)
		}
	}
	return nil
}

// sweepFolder removes what a dead process left, but for the folders of
// containers that go on.
func (r *Runtime) sweepFolder(dir string, used map[string]bool) {
	inside, _ := os.ReadDir(dir)
	kept := 0
	for _, e := range inside {
		path := filepath.Join(dir, e.Name())
		if used[path] {
			kept++
		} else if e.IsDir() {
			_ = os.RemoveAll(path)
		}
	}
	if kept == 0 {
		_ = os.RemoveAll(dir)
	}
}

// held reports whether a living process has an epoch's folder.
func (r *Runtime) held(epoch string) bool {
	f, err := os.OpenFile(filepath.Join(r.parked(), epoch, "lock"), os.O_RDWR, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}
