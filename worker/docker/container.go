package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"sluice/internal/fault"
	"sluice/messages"
	"sluice/worker"
)

// A box is one container.
type box struct {
	r       *Runtime
	id      string
	attempt worker.Attempt

	// Of a container that was started in advance.
	dir      string
	taken    *taken
	slot     *slot         // nil in a later process than the one that started it
	one      chan struct{} // held while its first process is watched
	nameless bool          // it is another process's, and has not got its attempt's name

	mu     sync.Mutex
	unname func(context.Context)         // ends its naming; nil if there was none
	exit   *worker.Exit                  // once it is known
	record *container.InspectResponse    // of a container that has ended
	toll   toll                          // what is known without that record
	next   <-chan container.WaitResponse // registered before the start, for the first Wait
	fail   <-chan error
	cancel context.CancelFunc // of what was registered
}

// Start gives an attempt a container that waits for one like it, or creates and
// starts one. An attempt never has two: one that waits is used only where nothing
// was tried before, and while it may be there no other is made.
func (r *Runtime) Start(ctx context.Context, spec worker.Spec) (worker.Container, error) {
	before, handed := r.begin(spec.Attempt)
	if handed {
		return nil, errors.New("an earlier container of the attempt may still run")
	}
	if !before {
		if box := r.startParked(spec); box != nil {
			return box, nil
		}
	}
	return r.startFresh(ctx, spec, before)
}

// startFresh creates and starts a container. One that an earlier try of this
// very attempt made and did not start is replaced.
func (r *Runtime) startFresh(ctx context.Context, spec worker.Spec, before bool) (worker.Container, error) {
	if r.parking != nil {
		defer r.parking.hurry()()
	}
	id, err := r.create(ctx, spec)
	switch {
	case errdefs.IsConflict(err):
		if err = r.removeStale(ctx, spec.Attempt); err == nil {
			id, err = r.create(ctx, spec)
		}
	case err != nil && !before:
		r.gone(spec.Attempt) // or is made, and never started
	}
	if err != nil {
		return nil, r.explainCreate(spec, err)
	}
	b := &box{r: r, id: id, attempt: spec.Attempt}
	if err := b.start(ctx); err != nil {
		b.forget()
		return nil, errors.Join(fmt.Errorf("start container: %w", err), b.Remove(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (r *Runtime) create(ctx context.Context, spec worker.Spec) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	host, err := r.hostConfig(ctx, spec)
	if err != nil {
		return "", err
	}
	made, err := r.cli.ContainerCreate(ctx, r.config(spec), host, nil, nil, r.name(spec.Attempt))
	return made.ID, err
}

// start registers the wait for the container's exit, which outlives this call,
// and only then starts it.
func (b *box) start(ctx context.Context) error {
	waiting, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	late := time.AfterFunc(b.r.cfg.Timeout, cancel) // until the engine has taken it
	b.next, b.fail = b.r.cli.ContainerWait(waiting, b.id, container.WaitConditionNextExit)
	if !late.Stop() {
		return errors.New("the engine did not take the wait for the container's end")
	}
	select {
	case err := <-b.fail:
		b.next, b.fail = nil, nil
		return fmt.Errorf("register the wait for the container's end: %w", err)
	default:
	}
	fault.At("worker.between-create-and-start")
	ctx, done := context.WithTimeout(ctx, b.r.cfg.Timeout)
	defer done()
	return b.r.cli.ContainerStart(ctx, b.id, container.StartOptions{})
}

// forget ends what was registered, and takes its answer if there is one: the
// client keeps a goroutine until somebody does.
func (b *box) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel == nil {
		return
	}
	b.cancel()
	b.cancel = nil
	if b.next != nil {
		discard(b.next, b.fail)
		b.next, b.fail = nil, nil
	}
}

// discard takes the answer to a wait that is not wanted any more.
func discard(next <-chan container.WaitResponse, fail <-chan error) {
	go func() {
		select {
		case <-next:
		case <-fail:
		}
	}()
}

// explainCreate tells what the action is at fault for from a fault of ours.
func (r *Runtime) explainCreate(spec worker.Spec, err error) error {
	if strings.Contains(strings.ToLower(err.Error()), "no command specified") {
		return noProgram(spec.Image)
	}
	return fmt.Errorf("create container: %w", err)
}

func (r *Runtime) removeStale(ctx context.Context, a worker.Attempt) error {
	found, err := r.inspect(ctx, r.name(a))
	if err != nil {
		return err
	}
	if found.Config.Labels[labelWorker] != r.cfg.Worker || found.Config.Labels[labelInstance] != r.id || found.State.Running {
		return fmt.Errorf("container %s exists and runs, or is not ours", r.name(a))
	}
	return r.remove(ctx, found.ID)
}

// Find returns this worker's containers, running or not. Those that an earlier
// process started in advance and gave no command are taken away.
func (r *Runtime) Find(ctx context.Context) ([]worker.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	list, err := r.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(
		filters.Arg("label", labelWorker+"="+r.cfg.Worker), filters.Arg("label", labelInstance+"="+r.id),
	)})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var found []worker.Container
	var left []container.Summary
	for _, c := range list {
		if _, parked := c.Labels[labelParked]; parked {
			if box := r.adopt(c); box != nil {
				found = append(found, box)
			} else {
				left = append(left, c)
			}
			continue
		}
		number, err := strconv.Atoi(c.Labels[labelAttempt])
		if err != nil || messages.JobID(c.Labels[labelJob]).Check() != nil {
			continue // somebody else's label
		}
		found = append(found, &box{r: r, id: c.ID, attempt: worker.Attempt{Job: messages.JobID(c.Labels[labelJob]), Number: number, Backend: c.Labels[labelBackend]}})
	}
	return found, r.sweep(ctx, found, left)
}

func (b *box) Attempt() worker.Attempt { return b.attempt }

// Wait returns how the container ended. The engine's answer may be lost with
// the connection: then it is asked again until ctx ends. A container that ended
// while the engine was away may have been ended by the engine: how it ended is
// nobody's word then.
func (b *box) Wait(ctx context.Context) (worker.Exit, error) {
	if b.taken != nil {
		if exit, err := b.waitParked(ctx); exit != nil || err != nil {
			return value(exit), err
		}
	}
	defer b.forget()
	for wait, lost := 100*time.Millisecond, false; ; wait = min(2*wait, 5*time.Second) {
		found, err := b.waitOnce(ctx, lost)
		switch {
		case err == nil && lost:
			return worker.Exit{}, fmt.Errorf("the container ended (with code %d) while the engine could not be reached", found.State.ExitCode)
		case err == nil:
			return b.keep(ctx, found)
		case ctx.Err() != nil:
			return worker.Exit{}, context.Cause(ctx)
		case errdefs.IsNotFound(err):
			return worker.Exit{}, fmt.Errorf("the container is gone: %w", err)
		case errors.Is(err, errRuns):
			lost, wait = false, 100*time.Millisecond
			continue
		}
		lost = true
		b.r.cfg.Log.Warn().Err(err).Str("container", b.id[:12]).Msg("waiting for the container is begun again")
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// keep keeps the record of a container that has ended, which it mends.
func (b *box) keep(ctx context.Context, found container.InspectResponse) (worker.Exit, error) {
	exit, err := exitOf(found)
	if err != nil {
		return exit, err
	}
	if exit.OOMKilled, err = b.starved(ctx, found); err != nil {
		return worker.Exit{}, err
	}
	found.State.OOMKilled = exit.OOMKilled
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.taken != nil {
		exit.Started = b.taken.At
		if exit.Finished.Before(exit.Started) {
			exit.Finished = exit.Started
		}
		b.exit = &exit
	}
	b.record = &found
	return exit, nil
}

// errRuns says that a container that was out of sight still runs.
var errRuns = errors.New("the container runs")

// waitOnce waits for the end, or, when the container was out of sight, only
// looks.
func (b *box) waitOnce(ctx context.Context, look bool) (container.InspectResponse, error) {
	if !look {
		if err := b.await(ctx); err != nil {
			return container.InspectResponse{}, err
		}
	}
	found, err := b.r.inspect(ctx, b.id)
	if err == nil && look && found.State.Running {
		err = errRuns
	}
	return found, err
}

func (b *box) await(ctx context.Context) error {
	b.mu.Lock()
	next, fail := b.next, b.fail
	b.mu.Unlock()
	mine := next == nil
	if mine {
		// The container was started before: "not running" cannot be true too early.
		next, fail = b.r.cli.ContainerWait(ctx, b.id, container.WaitConditionNotRunning)
	}
	select {
	case <-ctx.Done():
		if mine {
			discard(next, fail)
		}
		return context.Cause(ctx)
	case answer := <-next:
		b.answered()
		if answer.Error != nil {
			return errors.New(answer.Error.Message)
		}
		return nil
	case err := <-fail:
		b.answered()
		return err
	}
}

func (b *box) answered() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next, b.fail = nil, nil
}

func exitOf(found container.InspectResponse) (worker.Exit, error) {
	s := found.State
	if s.Running || s.Status == container.StateCreated {
		return worker.Exit{}, fmt.Errorf("the container did not end: it is %s", s.Status)
	}
	exit := worker.Exit{Code: s.ExitCode, OOMKilled: s.OOMKilled, Started: parseTime(s.StartedAt), Finished: parseTime(s.FinishedAt)}
	if exit.Finished.Before(exit.Started) {
		exit.Finished = exit.Started // one that ends at once may have ended before the engine noted its start
	}
	return exit, nil
}

func (r *Runtime) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	return r.cli.ContainerInspect(ctx, id)
}

// Stop sends SIGTERM, and SIGKILL after the grace.
func (b *box) Stop(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace+b.r.cfg.Timeout)
	defer cancel()
	seconds := int((grace + time.Second - 1) / time.Second)
	err := b.r.cli.ContainerStop(ctx, b.id, container.StopOptions{Timeout: &seconds})
	if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsNotModified(err) {
		return fmt.Errorf("stop container: %w", err)
	}
	return nil
}

// Remove deletes the container, running or not.
func (b *box) Remove(ctx context.Context) error {
	b.forget()
	if b.taken != nil {
		return b.removeParked(ctx)
	}
	return b.remove(ctx)
}

func (b *box) remove(ctx context.Context) error {
	if err := b.r.remove(ctx, b.id); err != nil {
		return err
	}
	b.r.gone(b.attempt)
	return nil
}

func (r *Runtime) remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	err := r.cli.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil && !errdefs.IsNotFound(err) && !strings.Contains(err.Error(), "is already in progress") {
		return fmt.Errorf("remove container: %w", err)
	}
	return nil
}

// shown are the variables whose values a record of a container may keep; any
// other may hold a secret (the reference's list, agent/executors/local.py).
var shown = map[string]bool{
	"PATH": true, "PYTHON_VERSION": true, "DEBIAN_FRONTEND": true, "DEBCONF_NONINTERACTIVE_SEEN": true, "UBUNTU_VERSION": true, "PYENV_SHELL": true,
	"PYENV_VERSION": true, "PYTHONUNBUFFERED": true, "OPENSAFELY_BACKEND": true, "TZ": true, "TEMP_DATABASE_NAME": true, "PYTHONPATH": true, "container": true,
	"LANG": true, "LC_ALL": true, "EHRQL_PERMISSIONS": true,
}

// Inspect returns the engine's record of the container without secrets.
func (b *box) Inspect(ctx context.Context) ([]byte, error) {
	found, err := b.recorded(ctx)
	if err != nil {
		return nil, fmt.Errorf("inspect container: %w", err)
	}
	if found.Config != nil {
		config := *found.Config
		config.Env = redact(config.Env)
		found.Config = &config
	}
	return json.Marshal(found)
}

// recorded is the record of a container: that of its end, if it has ended.
func (b *box) recorded(ctx context.Context) (container.InspectResponse, error) {
	b.mu.Lock()
	record, exit := b.record, b.exit
	b.mu.Unlock()
	switch {
	case b.taken != nil:
		return b.recordedParked(ctx, record, exit)
	case record != nil:
		return *record, nil
	}
	return b.r.inspect(ctx, b.id)
}

// redact returns an environment without what may be secret in it.
func redact(env []string) []string {
	safe := make([]string, len(env))
	for i, v := range env {
		key, _, _ := strings.Cut(v, "=")
		if safe[i] = v; !shown[key] {
			safe[i] = key + "=xxxx-REDACTED-xxxx"
		}
	}
	return safe
}
