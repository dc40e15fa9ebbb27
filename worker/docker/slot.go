package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"golang.org/x/sys/unix"

	"sluice/worker"
)

// A slot is a container that was started in advance, and what this process
// holds of it.
//
//	<worker's folder>/parked/<epoch>/<n>/wait/program   mounted at /workspace
//	                                          fifo      gone once the command is handed over
//	                                     taken.json     what it became
//	                                     exit.json      how that ended
//
// The workspace is mounted over /workspace before the command is handed over,
// so that nothing of this can be seen or reached by the command.
type slot struct {
	r      *Runtime
	class  class
	dir    string
	label  string
	id     string
	record container.InspectResponse // as it waits

	feed *os.File // the FIFO
	proc *os.File // its first process
	ns   *os.File // its mount namespace
	oom  *os.File // counts what was killed for want of memory; nil where it cannot be had
	outs []*os.File
}

const (
	waitDir    = "wait"
	programArg = "/workspace/program"
	fifoArg    = "/workspace/fifo"
)

// makeSlot creates and starts a container that waits.
func (p *parking) makeSlot(c class) (_ *slot, err error) {
	n := p.name()
	s := &slot{r: p.r, class: c, dir: filepath.Join(p.dir, n), label: p.epoch + "." + n}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.destroy())
		}
	}()
	wait := filepath.Join(s.dir, waitDir)
	fifo := filepath.Join(wait, filepath.Base(fifoArg))
	if err := errors.Join(
		os.MkdirAll(wait, 0o755),
		os.WriteFile(filepath.Join(wait, filepath.Base(programArg)), p.program, 0o755), //nolint:gosec // run in the container
		unix.Mkfifo(fifo, 0o400),
		os.Chown(fifo, c.uid, c.gid),
	); err != nil {
		return nil, fmt.Errorf("lay out a container that waits: %w", err)
	}
	// Not broken off: the engine would make it all the same, and nobody would
	// know its id.
	if err := s.create(context.WithoutCancel(p.life), wait); err != nil {
		return nil, err
	}
	feed := make(chan error, 1)
	go func() {
		var err error
		s.feed, err = os.OpenFile(fifo, os.O_WRONLY, 0) // returns when the program has opened it
		feed <- err
	}()
	err = s.start(p.life)
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	if err == nil {
		select {
		case err := <-feed:
			if err != nil {
				return nil, fmt.Errorf("open the way to a container that waits: %w", err)
			}
			return s, s.grasp(p.life)
		case <-late.C:
			err = errors.New("the program that waits in a container did not begin to wait")
		case <-p.life.Done():
			err = context.Canceled
		}
	}
	// Open the other end, so that ours is opened and can be closed.
	if other, openErr := os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0); openErr == nil {
		<-feed
		_ = other.Close()
	}
	return nil, err
}

func (s *slot) create(ctx context.Context, wait string) error {
	ctx, cancel := context.WithTimeout(ctx, s.r.cfg.Timeout)
	defer cancel()
	c := s.class
	spec := worker.Spec{Image: c.ref, Dir: wait, UID: c.uid, GID: c.gid, Limits: c.limits, Attempt: worker.Attempt{Backend: c.backend}}
	host, err := s.r.hostConfig(ctx, spec)
	if err != nil {
		return err
	}
	for i := range host.Mounts {
		host.Mounts[i].ReadOnly = true
	}
	config := s.r.config(spec)
	config.Image = c.ref
	config.Entrypoint, config.Cmd, config.WorkingDir = []string{programArg}, []string{fifoArg}, "/"
	config.Labels = map[string]string{labelWorker: s.r.cfg.Worker, labelInstance: s.r.id, labelBackend: c.backend, labelParked: s.label}
	made, err := s.r.cli.ContainerCreate(ctx, config, host, nil, nil, "sluice-parked-"+s.label)
	if err != nil {
		s.r.parking.lose(s.label) // it may be made all the same
		return fmt.Errorf("create container: %w", err)
	}
	s.id = made.ID
	return nil
}

func (s *slot) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.r.cfg.Timeout)
	defer cancel()
	if err := s.r.cli.ContainerStart(ctx, s.id, container.StartOptions{}); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	return nil
}

// grasp opens what is needed of the container's first process. That its number
// is the container's is checked once it can no longer be another's: the engine
// may run where processes have other numbers.
func (s *slot) grasp(ctx context.Context) (err error) {
	if s.record, err = s.r.inspect(ctx, s.id); err != nil {
		return fmt.Errorf("look at container: %w", err)
	}
	if s.record.Image != s.class.image {
		return fmt.Errorf("image %s was changed meanwhile", s.class.ref)
	}
	pid := s.record.State.Pid
	if !s.record.State.Running || pid <= 0 {
		return errors.New("the container that should wait does not run")
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("follow the container's process: %w", err)
	}
	s.proc = os.NewFile(uintptr(fd), "process of "+s.id)
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	groups, err := os.ReadFile(filepath.Join(proc, "cgroup"))
	if err != nil || !bytes.Contains(groups, []byte(s.id)) {
		return errors.Join(errors.New("the container's process cannot be seen: the engine runs on another machine, or this worker runs in a container"), err)
	}
	if s.ns, err = os.Open(filepath.Join(proc, "ns/mnt")); err != nil {
		return fmt.Errorf("open the container's mounts: %w", err)
	}
	s.oom = openOOM(groups)
	for _, n := range []string{"1", "2"} {
		var st unix.Stat_t
		path := filepath.Join(proc, "fd", n)
		if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFIFO {
			break
		}
		out, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			break
		}
		s.outs = append(s.outs, out)
	}
	if !s.waits() {
		return errors.New("the container that should wait has ended")
	}
	return nil
}

// waits reports whether the container still runs.
func (s *slot) waits() bool { return s.proc != nil && !ended(s.proc, unix.POLLIN) }

// release closes what this process holds.
func (s *slot) release() {
	for _, f := range append([]*os.File{s.feed, s.proc, s.ns, s.oom}, s.outs...) {
		if f != nil {
			_ = f.Close()
		}
	}
}

// destroy removes the container and its files.
func (s *slot) destroy() error {
	s.release()
	if s.id != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // a worker that stops waits for it
		defer cancel()
		if err := s.r.remove(ctx, s.id); err != nil {
			s.r.parking.lose(s.label)
			return err
		}
	}
	return os.RemoveAll(s.dir)
}
