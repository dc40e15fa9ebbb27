package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice/jetstream"
	"sluice/worker"
	"sluice/worker/docker"
)

// What the fleet here is called.
const (
	backend = "bench"
	slots   = 4
)

// A fleet is `sluice up` in a process of its own.
type fleet struct {
	*jobServer
	child *child
	dir   string
	study study // a small one
	many  study
}

// useFleet starts the fleet that workloads share.
func (b *Bench) useFleet(ctx context.Context) (_ *fleet, err error) {
	if b.fleet == nil {
		b.fleet, err = b.startFleet(ctx, "up")
	}
	return b.fleet, err
}

// startFleet starts a fleet in a folder of a name, and makes the studies that it
// runs.
func (b *Bench) startFleet(ctx context.Context, name string, flags ...string) (*fleet, error) {
	e, err := b.useEngine(ctx)
	if err != nil {
		return nil, err
	}
	f := &fleet{dir: filepath.Join(b.scratch, name)}
	if f.study, err = b.repository(ctx, few); err != nil {
		return nil, err
	}
	if f.many, err = b.repository(ctx, most); err != nil {
		return nil, err
	}
	b.say("starting a fleet")
	at := func(part string) string { return filepath.Join(f.dir, part) }
	url := f.dir + ".url"
	// Folders are named one by one: the environment may name those of a real
	// fleet, and nothing here may touch them.
	args := append([]string{
		"up", "--log-level=error", "--dir", f.dir, "--listen=127.0.0.1:0", "--url-file", url, "--backend", backend, "--backends", backend,
		"--high", at("high"), "--medium", at("medium"), "--staging", at("staging"), "--mirrors", at("mirrors"),
		"--allow-local-repos", fmt.Sprintf("--slots=%d", slots), "--db-slots=0", "--drain=0", "--no-pull", "--image-prefix", e.prefix,
	}, append(flags, b.Args...)...)
	if f.child, err = startChild(b.Program, args...); err != nil {
		return nil, err
	}
	b.onClose(func() error { return errors.Join(f.child.stop(), clearContainers(f.dir)) })
	address, err := f.child.await(ctx, url)
	if err != nil {
		return nil, err
	}
	if f.jobServer, err = openJobServer(ctx, address, b.Log); err != nil {
		return nil, err
	}
	b.onClose(func() error { f.close(); return nil })
	return f, nil
}

// clearContainers removes what the fleet's worker left on the engine.
func clearContainers(dir string) error {
	cfg := docker.DefaultConfig(worker.HostName(), filepath.Join(dir, "worker"))
	if _, err := os.Stat(cfg.Dir); err != nil {
		return nil // it never came so far
	}
	r, err := docker.New(cfg)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
	defer cancel()
	return errors.Join(r.Clear(ctx), r.Close())
}

// A child is another process of this program.
type child struct {
	cmd    *exec.Cmd
	output bytes.Buffer // its last words
	ended  chan struct{}
	err    error
}

func startChild(program string, args ...string) (*child, error) {
	c := &child{cmd: exec.Command(program, args...), ended: make(chan struct{})} //nolint:gosec // this very program
	for _, v := range os.Environ() {                                             // whose server the environment names is not ours
		if !strings.HasPrefix(v, "SLUICE_NATS_") {
			c.cmd.Env = append(c.cmd.Env, v)
		}
	}
	c.cmd.Stdout, c.cmd.Stderr = &tail{&c.output}, &tail{&c.output}
	// A terminal's interrupt is for us alone: we stop the child when all is
	// done. Should we be killed, it is told to stop.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s %s: %w", program, args[0], err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// await waits for the file that the child writes when it is ready.
func (c *child) await(ctx context.Context, path string) (string, error) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if text, err := os.ReadFile(path); err == nil { //nolint:gosec // in our own folder
			return strings.TrimSpace(string(text)), nil
		}
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-c.ended:
			return "", fmt.Errorf("the fleet ended at its start (%w): %s", c.err, strings.TrimSpace(c.output.String()))
		case <-tick.C:
		}
	}
}

// alive reports that the child has ended, with its last words.
func (c *child) alive() error {
	select {
	case <-c.ended:
		return fmt.Errorf("the fleet ended (%v): %s", c.err, strings.TrimSpace(c.output.String()))
	default:
		return nil
	}
}

// stop ends the child: politely first, then its drain, then by force.
func (c *child) stop() error {
	for _, s := range []struct {
		signal syscall.Signal
		wait   time.Duration
	}{{syscall.SIGTERM, 20 * time.Second}, {syscall.SIGTERM, 20 * time.Second}, {syscall.SIGKILL, time.Minute}} {
		_ = c.cmd.Process.Signal(s.signal) // one that has ended hears nothing
		timer := time.NewTimer(s.wait)
		select {
		case <-c.ended:
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
	return errors.New("the fleet's process does not end")
}

// A tail keeps the end of what is written.
type tail struct{ to *bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	const most = 8 << 10
	t.to.Write(p)
	if extra := t.to.Len() - most; extra > 0 {
		t.to.Next(extra)
	}
	return len(p), nil
}

// openConn connects to a server that is measured.
func openConn(ctx context.Context, o jetstream.Options) (*jetstream.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return jetstream.Connect(ctx, o)
}
