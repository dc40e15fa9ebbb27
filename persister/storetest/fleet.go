// Package storetest is what tests of the persister share: a fleet that lies in
// a folder, so that a process that was killed finds its registers again, and
// attempts as a worker leaves them in staging.
package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/messages"
	"sluice/persister"
)

// Backend is the name of the fleet's backend.
const Backend = "test"

// A Fleet is the registers, the queue and the events of one backend. Commits
// and events are files beneath Dir; the rest is the test's to fill in.
type Fleet struct {
	Dir   string
	Jobs  map[string]*messages.Job
	Plans map[string]*messages.Plan

	// BeforeCreate and AfterCreate, if set, run around the creation of a commit;
	// what they return is what the caller sees.
	BeforeCreate, AfterCreate func(key string) error

	mu    sync.Mutex
	queue chan handover
}

type handover struct {
	delivery *messages.Delivery
	done     chan<- error
}

// NewFleet returns an empty fleet.
func NewFleet(dir string) *Fleet {
	return &Fleet{Dir: dir, Jobs: map[string]*messages.Job{}, Plans: map[string]*messages.Plan{}, queue: make(chan handover)}
}

// Ports are the fleet as a persister sees it.
func (f *Fleet) Ports(store persister.Store, now func() time.Time) persister.Ports {
	return persister.Ports{
		Queue: f, Outbox: f, Jobs: entries[messages.Job]{f.Jobs}, Plans: entries[messages.Plan]{f.Plans},
		Commits: commits{f}, Store: store, Now: now,
	}
}

// AddJob records a job.
func (f *Fleet) AddJob(j *messages.Job) {
	f.Jobs[messages.JobKey(j.Backend, j.Workspace, j.ID)] = j
}

// Receive hands over what Deliver brings, all at once.
func (f *Fleet) Receive(ctx context.Context, handle func(context.Context, *messages.Delivery) error) error {
	var hands sync.WaitGroup
	defer hands.Wait()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case h := <-f.queue:
			hands.Go(func() { h.done <- handle(context.WithoutCancel(ctx), h.delivery) }) // as the queue does
		}
	}
}

// Deliver gives a message to a running persister and returns what it made of it.
func (f *Fleet) Deliver(ctx context.Context, d *messages.Delivery) error {
	done := make(chan error, 1)
	select {
	case f.queue <- handover{d, done}:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Delivery returns a message as the queue would hand it over.
func Delivery(m *messages.Files, tries int) (*messages.Delivery, error) {
	data, err := messages.Encode(m)
	if err != nil {
		return nil, err
	}
	return &messages.Delivery{Subject: m.Subject(), Data: data, Tries: tries}, nil
}

// Publish keeps an event.
func (f *Fleet) Publish(_ context.Context, subject string, m messages.Message, id string) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := os.OpenFile(filepath.Join(f.Dir, "events"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s %s %s\n", subject, id, data)
	return errors.Join(err, file.Close())
}

// Events returns each line "subject id payload" of what was published.
func (f *Fleet) Events() (string, error) {
	data, err := os.ReadFile(filepath.Join(f.Dir, "events"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(data), err
}

type entries[T any] struct{ m map[string]*T }

func (e entries[T]) Get(_ context.Context, key string) (messages.Entry[T], error) {
	v, ok := e.m[key]
	if !ok {
		return messages.Entry[T]{}, fmt.Errorf("get %s: %w", key, messages.ErrNotFound)
	}
	return messages.Entry[T]{Key: key, Value: v, Revision: 1}, nil
}

type commits struct{ f *Fleet }

func (c commits) Get(_ context.Context, key string) (messages.Entry[messages.Commit], error) {
	return c.f.Commit(key)
}

// Commit reads a commit.
func (f *Fleet) Commit(key string) (entry messages.Entry[messages.Commit], err error) {
	data, err := os.ReadFile(filepath.Join(f.Dir, "commit."+key))
	if errors.Is(err, fs.ErrNotExist) {
		return entry, fmt.Errorf("get %s: %w", key, messages.ErrNotFound)
	}
	if err != nil {
		return entry, err
	}
	entry = messages.Entry[messages.Commit]{Key: key, Value: &messages.Commit{}, Revision: 1}
	return entry, json.Unmarshal(data, entry.Value)
}

func (c commits) Create(_ context.Context, key string, value *messages.Commit) (messages.Revision, error) {
	if c.f.BeforeCreate != nil {
		if err := c.f.BeforeCreate(key); err != nil {
			return 0, err
		}
	}
	if err := c.f.CreateCommit(key, value); err != nil {
		return 0, err
	}
	if c.f.AfterCreate != nil {
		return 1, c.f.AfterCreate(key)
	}
	return 1, nil
}

// CreateCommit creates a commit, of whoever.
func (f *Fleet) CreateCommit(key string, value *messages.Commit) error {
	data, err := messages.Encode(value)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(f.Dir, "new.")
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	err = os.Link(tmp.Name(), filepath.Join(f.Dir, "commit."+key)) // whole or not at all
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("create %s: %w", key, messages.ErrConflict)
	}
	return errors.Join(err, os.Remove(tmp.Name()))
}
