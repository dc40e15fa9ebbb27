package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/pkg/stdcopy"

	"sluice/messages"
	"sluice/worker"
)

// A box is one container.
type box struct {
	r       *Runtime
	id      string
	attempt worker.Attempt

	mu   sync.Mutex
	next <-chan container.WaitResponse // registered before the start, for the first Wait
	fail <-chan error
}

// Start creates and starts the container of an attempt. One that an earlier
// try of this very attempt made and did not start is replaced.
func (r *Runtime) Start(ctx context.Context, spec worker.Spec) (worker.Container, error) {
	id, err := r.create(ctx, spec)
	if errdefs.IsConflict(err) {
		if err = r.removeStale(ctx, spec.Attempt); err == nil {
			id, err = r.create(ctx, spec)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("create container: %w", err)
	}
	b := &box{r: r, id: id, attempt: spec.Attempt}
	// The wait outlives this call: it must be registered before the start.
	b.next, b.fail = r.cli.ContainerWait(context.WithoutCancel(ctx), id, container.WaitConditionNextExit)
	startCtx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	if err := r.cli.ContainerStart(startCtx, id, container.StartOptions{}); err != nil {
		return nil, errors.Join(r.explainStart(spec, err), b.Remove(context.WithoutCancel(ctx)))
	}
	return b, nil
}

func (r *Runtime) create(ctx context.Context, spec worker.Spec) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	made, err := r.cli.ContainerCreate(ctx, r.config(spec), r.hostConfig(spec), nil, nil, name(spec.Attempt))
	return made.ID, err
}

// explainStart tells a command that the image does not have from a fault of
// the engine.
func (r *Runtime) explainStart(spec worker.Spec, err error) error {
	text := err.Error()
	if strings.Contains(text, "executable file not found") || strings.Contains(text, "no such file or directory: unknown") || strings.Contains(text, "permission denied: unknown") || strings.Contains(text, "no command specified") {
		return messages.Failf(messages.JobError, "image %s cannot run %s: the program is not in the image, or is not executable", messages.Quote(spec.Image), messages.Quote(strings.Join(spec.Args, " ")))
	}
	return fmt.Errorf("start container: %w", err)
}

func (r *Runtime) removeStale(ctx context.Context, a worker.Attempt) error {
	found, err := r.inspect(ctx, name(a))
	if err != nil {
		return err
	}
	if found.Config.Labels[labelWorker] != r.cfg.Worker || found.State.Running {
		return fmt.Errorf("container %s exists and runs, or is not ours", name(a))
	}
	return (&box{r: r, id: found.ID, attempt: a}).Remove(ctx)
}

// Find returns this worker's containers, running or not.
func (r *Runtime) Find(ctx context.Context) ([]worker.Container, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	list, err := r.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", labelWorker+"="+r.cfg.Worker))})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	var found []worker.Container
	for _, c := range list {
		number, err := strconv.Atoi(c.Labels[labelAttempt])
		if err != nil || messages.JobID(c.Labels[labelJob]).Check() != nil {
			continue // somebody else's label
		}
		found = append(found, &box{r: r, id: c.ID, attempt: worker.Attempt{Job: messages.JobID(c.Labels[labelJob]), Number: number, Backend: c.Labels[labelBackend]}})
	}
	return found, nil
}

func (b *box) Attempt() worker.Attempt { return b.attempt }

// Wait returns how the container ended. The engine's answer may be lost with
// the connection: it is asked again until ctx ends or the container is gone.
func (b *box) Wait(ctx context.Context) (worker.Exit, error) {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := b.waitOnce(ctx)
		if err == nil {
			return b.exit(ctx)
		}
		if ctx.Err() != nil {
			return worker.Exit{}, context.Cause(ctx)
		}
		if errdefs.IsNotFound(err) {
			return worker.Exit{}, fmt.Errorf("the container is gone: %w", err)
		}
		b.r.cfg.Log.Warn().Err(err).Str("container", b.id[:12]).Msg("waiting for the container is begun again")
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

func (b *box) waitOnce(ctx context.Context) error {
	b.mu.Lock()
	next, fail := b.next, b.fail
	b.next, b.fail = nil, nil
	b.mu.Unlock()
	if next == nil {
		// The container was started before: "not running" cannot be true too early.
		next, fail = b.r.cli.ContainerWait(ctx, b.id, container.WaitConditionNotRunning)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case answer := <-next:
		if answer.Error != nil {
			return errors.New(answer.Error.Message)
		}
		return nil
	case err := <-fail:
		return err
	}
}

func (b *box) exit(ctx context.Context) (worker.Exit, error) {
	found, err := b.r.inspect(context.WithoutCancel(ctx), b.id)
	if err != nil {
		return worker.Exit{}, fmt.Errorf("read how the container ended: %w", err)
	}
	if found.State.Running || found.State.Status == "created" {
		return worker.Exit{}, fmt.Errorf("the container did not end: it is %s", found.State.Status)
	}
	return worker.Exit{
		Code: found.State.ExitCode, OOMKilled: found.State.OOMKilled,
		Started: parseTime(found.State.StartedAt), Finished: parseTime(found.State.FinishedAt),
	}, nil
}

func (r *Runtime) inspect(ctx context.Context, id string) (container.InspectResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	return r.cli.ContainerInspect(ctx, id)
}

// Logs writes the container's output, both streams in the order in which the
// engine got them.
func (b *box) Logs(ctx context.Context, w io.Writer) error {
	logs, err := b.r.cli.ContainerLogs(ctx, b.id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: true})
	if err != nil {
		return fmt.Errorf("read the container's log: %w", err)
	}
	defer logs.Close()
	if _, err := stdcopy.StdCopy(w, w, logs); err != nil {
		return fmt.Errorf("read the container's log: %w", err)
	}
	return nil
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
	ctx, cancel := context.WithTimeout(ctx, b.r.cfg.Timeout)
	defer cancel()
	err := b.r.cli.ContainerRemove(ctx, b.id, container.RemoveOptions{Force: true, RemoveVolumes: true})
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
	found, err := b.r.inspect(ctx, b.id)
	if err != nil {
		return nil, fmt.Errorf("inspect container: %w", err)
	}
	if found.Config != nil {
		for i, v := range found.Config.Env {
			if key, _, _ := strings.Cut(v, "="); !shown[key] {
				found.Config.Env[i] = key + "=xxxx-REDACTED-xxxx"
			}
		}
	}
	return json.Marshal(found)
}
