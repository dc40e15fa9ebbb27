package planner

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/messages"
	"sluice/planner/project"
)

// fetchTimeout bounds one try to get a project file.
const fetchTimeout = 10 * time.Minute

// fetchesAtOnce bounds the project files that are fetched at the same time.
const fetchesAtOnce = 8

// errNotHere is wrapped where a project file, or what it names, cannot be had
// for now.
var errNotHere = errors.New("the project file cannot be had for now")

// sources fetches project files apart from the goroutines that want them: one
// that is slow must not hold up what is behind it.
type sources struct {
	mu    sync.Mutex
	going map[messages.Source]*fetch
	slots chan struct{}
	parsed
}

type fetch struct {
	done    chan struct{}
	project *project.Project
	err     error
}

func newSources() *sources {
	return &sources{going: map[messages.Source]*fetch{}, slots: make(chan struct{}, fetchesAtOnce)}
}

// project returns the project of a source, and waits for it as long as wait
// says; below zero means as long as it takes. The error is a messages.Failure,
// a project.Problems, or wraps errNotHere.
func (s *session) project(ctx context.Context, src messages.Source, wait time.Duration) (*project.Project, error) {
	s.sources.mu.Lock()
	f := s.sources.going[src]
	if f == nil {
		f = &fetch{done: make(chan struct{})}
		s.sources.going[src] = f
		s.group.Go(func() error {
			f.project, f.err = s.fetch(s.ctx, src)
			s.sources.mu.Lock()
			delete(s.sources.going, src)
			s.sources.mu.Unlock()
			close(f.done)
			return nil
		})
	}
	s.sources.mu.Unlock()

	var late <-chan time.Time
	if wait >= 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-f.done:
		return f.project, f.err
	case <-late:
		return nil, fmt.Errorf("%w: it is being fetched", errNotHere)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fetch gets and parses one project file, and looks its images up. A registry
// that does not answer takes no slot of the fetches.
func (s *session) fetch(ctx context.Context, src messages.Source) (*project.Project, error) {
	p, err := s.download(ctx, src)
	if err == nil {
		s.pin(ctx, p)
	}
	return p, err
}

func (s *session) download(ctx context.Context, src messages.Source) (*project.Project, error) {
	select {
	case s.sources.slots <- struct{}{}:
		defer func() { <-s.sources.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	p, err := s.readProject(ctx, src)
	if err != nil {
		return nil, err
	}
	if err := s.reuse(ctx, p); err != nil {
		return nil, err
	}
	return p, nil
}

// readProject gets and parses a project file here and now.
func (s *session) readProject(ctx context.Context, src messages.Source) (*project.Project, error) {
	file, err := s.Source.Project(ctx, src)
	var failure *messages.Failure
	switch {
	case errors.As(err, &failure):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNotHere, err)
	}
	p, problems := s.sources.parse(file)
	if len(problems) > 0 {
		return nil, problems
	}
	return p, nil
}

// patternsOf lists every pattern of a project's outputs.
func patternsOf(p *project.Project) []string {
	list := []string{}
	for _, a := range p.Actions {
		for _, o := range a.Outputs {
			list = append(list, o.Pattern)
		}
	}
	return list
}
