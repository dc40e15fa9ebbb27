package bench

import (
	"context"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sluice/messages"
	"sluice/persister"
	"sluice/worker"
)

// Noop is a runtime without containers: an attempt leaves the one file that
// the study's no-op actions leave, at once. What is measured with it is all
// the rest.
type Noop struct{}

var _ worker.Runtime = Noop{}

func (Noop) Check(context.Context) error                              { return nil }
func (Noop) Image(context.Context, string) (digest string, err error) { return "sha256:noop", nil }
func (Noop) Find(context.Context) ([]worker.Container, error)         { return nil, nil }
func (Noop) Drain()                                                   {}

// Start does the action's work.
func (Noop) Start(_ context.Context, spec worker.Spec) (worker.Container, error) {
	c := noopContainer{attempt: spec.Attempt, exit: worker.Exit{Started: time.Now().UTC()}}
	if err := os.WriteFile(filepath.Join(spec.Dir, spec.Action+".txt"), []byte("1\n"), 0o644); err != nil { //nolint:gosec // as a container would
		return nil, err
	}
	c.exit.Finished = time.Now().UTC()
	return c, nil
}

type noopContainer struct {
	attempt worker.Attempt
	exit    worker.Exit
}

func (c noopContainer) Attempt() worker.Attempt                   { return c.attempt }
func (c noopContainer) Wait(context.Context) (worker.Exit, error) { return c.exit, nil }
func (noopContainer) Logs(context.Context, io.Writer) error       { return nil }
func (noopContainer) Stop(context.Context, time.Duration) error   { return nil }
func (noopContainer) Usage(context.Context) (worker.Usage, error) { return worker.Usage{}, nil }
func (noopContainer) Inspect(context.Context) ([]byte, error)     { return []byte("{}"), nil }
func (noopContainer) Remove(context.Context) error                { return nil }

// NoStore is a store that keeps nothing: attempts are committed and forgotten.
type NoStore struct{}

var _ persister.Store = NoStore{}

func (NoStore) Recover(context.Context, persister.Committed) error { return nil }
func (NoStore) Published(context.Context, persister.Attempt, string, persister.Committed) (bool, error) {
	return true, nil
}
func (NoStore) Begin(context.Context, persister.Attempt) (persister.Draft, error) {
	return noDraft{}, nil
}

type noDraft struct{}

func (noDraft) Open(string) (io.ReadCloser, error)                          { return nil, fs.ErrNotExist }
func (noDraft) Copy(context.Context, []messages.File) error                 { return nil }
func (noDraft) Copied(int) (io.ReadCloser, error)                           { return nil, fs.ErrNotExist }
func (noDraft) Publish(ctx context.Context, p *persister.Publication) error { return p.Commit(ctx) }
func (noDraft) Keep(context.Context, *persister.Record) error               { return nil }
func (noDraft) Close() error                                                { return nil }
