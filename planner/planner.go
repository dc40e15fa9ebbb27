// Package planner turns requests into jobs, decides when each starts, and says
// how each ended. It alone writes the records of jobs.
//
// Decide (which jobs a request needs) and Admit (which of them start now) are
// pure functions. The service around them, Planner, keeps what it knows of the
// jobs that have not ended, and can lose it at any instant: every step is
// written to a register by compare-and-set before it is acted upon, and a
// fresh planner goes on from there. The steps are those of docs/protocol.md.
package planner

import (
	"context"
	"time"

	"github.com/rs/zerolog"
)

// A Planner plans for one fleet. Several may run; one of them is active.
type Planner struct {
	cfg Config
	Ports
	log     zerolog.Logger
	weights weights
}

// New returns a service that does nothing until Run.
func New(cfg Config, ports Ports, log zerolog.Logger) (*Planner, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	w, err := newWeights(cfg.Weights)
	if err != nil {
		return nil, err
	}
	if ports.Now == nil {
		ports.Now = time.Now
	}
	return &Planner{cfg: cfg, Ports: ports, log: log, weights: w}, nil
}

// Run plans until ctx ends, whenever this planner is the active one. It
// returns nil on a clean stop.
func (p *Planner) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
