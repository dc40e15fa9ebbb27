package persister

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
)

// Ports is what the service needs from the others.
type Ports struct {
	Queue   Queue
	Outbox  Outbox
	Jobs    Jobs
	Plans   Plans
	Commits Commits
	Store   Store
	Turns   *Turns           // nil: as many as Config.Copies
	Now     func() time.Time // nil: time.Now
}

// A Persister moves the files of one backend's attempts into the tiers.
type Persister struct {
	cfg Config
	Ports
	log      zerolog.Logger
	projects projects
	stuck    stuck
}

// New returns a service that does nothing until Run.
func New(cfg Config, ports Ports, log zerolog.Logger) (*Persister, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if ports.Now == nil {
		ports.Now = time.Now
	}
	if ports.Turns == nil {
		ports.Turns = NewTurns(cfg.Copies)
	}
	return &Persister{cfg: cfg, Ports: ports, log: log.With().Str("backend", cfg.Backend).Logger()}, nil
}

// Run finishes what an earlier process left behind, then persists attempts
// until ctx ends. What has been committed is made visible even then; the rest is
// given back, so that another persister has it at once.
func (p *Persister) Run(ctx context.Context) error {
	if err := p.Store.Recover(ctx, p.committed); err != nil && ctx.Err() == nil {
		// What is left is tried again before its workspace is changed next: it
		// must not keep the other workspaces waiting.
		p.log.Error().Err(err).Msg("the tiers are not wholly recovered")
	}
	err := p.Queue.Receive(ctx, func(own context.Context, d *messages.Delivery) error {
		own, cancel := context.WithCancel(own)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return p.handle(own, d)
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("receive new files: %w", err)
	}
	return nil
}

// committed asks the register which attempt has the commit of a job.
func (p *Persister) committed(ctx context.Context, job messages.JobID) (int, error) {
	c, err := p.commit(ctx, job)
	if err != nil || c == nil {
		return -1, err
	}
	return c.Attempt, nil
}

// commit reads the commit of a job; nil if there is none. One that cannot be
// read is for ever, and gives no attempt's files to the job: the planner ends it.
func (p *Persister) commit(ctx context.Context, job messages.JobID) (*messages.Commit, error) {
	entry, err := p.Commits.Get(ctx, messages.CommitKey(p.cfg.Backend, job))
	switch {
	case errors.Is(err, messages.ErrNotFound):
		return nil, nil
	case errors.Is(err, messages.ErrUnreadable):
		p.log.Error().Err(err).Str("job", string(job)).Msg("the job's commit cannot be read; it counts as one of no attempt")
		return &messages.Commit{Job: job, Code: messages.InternalError}, nil
	case err != nil:
		return nil, registerError{fmt.Errorf("read commit of %s: %w", job, err)}
	}
	return entry.Value, nil
}
