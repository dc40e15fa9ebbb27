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
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"sluice/internal/fault"
	"sluice/messages"
)

// A Planner plans for one fleet. Several may run; one of them is active.
type Planner struct {
	cfg Config
	Ports
	log     zerolog.Logger
	weights weights
	fault   messages.Leader // what the leader key is to say of the last session's end; Run's own
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
		ports.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Planner{cfg: cfg, Ports: ports.within(cfg.CallTimeout), log: log, weights: w}, nil
}

// Run plans until ctx ends, whenever this planner is the active one. A fault
// of a port ends what it is doing; it begins anew from the registers. Run
// returns nil on a clean stop.
func (p *Planner) Run(ctx context.Context) error {
	const shortest, longest = 100 * time.Millisecond, 10 * time.Second
	for wait := shortest; ctx.Err() == nil; wait = min(2*wait, longest) {
		began := p.Now()
		err := p.once(ctx)
		if ctx.Err() != nil {
			break
		}
		if p.Now().Sub(began) > longest {
			wait = shortest
		}
		p.log.Error().Err(err).Dur("pause", wait).Msg("planner begins anew")
		p.fault = messages.Leader{Again: p.fault.Again + 1, AgainAt: p.Now(), Because: clip(fmt.Sprint(err))}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// once plans for as long as this planner stays the active one.
func (p *Planner) once(ctx context.Context) error {
	r, err := p.acquire(ctx)
	if err != nil {
		return err
	}
	fault.At("planner.after-lead")
	p.log.Info().Msg("this planner is active")
	err = p.reign(ctx, r)
	if !errors.Is(err, errDeposed) {
		p.resign(ctx, r)
	}
	return err
}
