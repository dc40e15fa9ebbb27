package planner

import (
	"context"

	"sluice/messages"
)

// terms are what operators have set for the jobs that are planned now on a
// backend. They end up in the records, which never change again.
type terms struct {
	pools   map[string]float64 // limits of the pools that jobs go to; 0 for none
	limits  messages.Limits    // of every attempt; zero means the worker's own
	weights weights
}

// termsOf asks the owner of the state for a backend's terms.
func (s *session) termsOf(ctx context.Context, name string) (terms, error) {
	t := terms{pools: map[string]float64{}}
	err := s.do(ctx, func(context.Context) error {
		b := s.backend(name)
		for _, pool := range []string{s.cfg.DatabasePool, s.cfg.DefaultPool} {
			t.pools[pool] = s.limit(b, pool)
		}
		t.limits = limitsOver(b.setting.JobLimits, s.cfg.JobLimits[name])
		t.weights = s.weights.under(name, b.setting.Weights)
		return nil
	})
	if err != nil {
		return terms{}, err // the owner may be writing t even now
	}
	return t, nil
}

// limitsOver returns the limits of the first, and of the second where the first
// has none.
func limitsOver(first, second messages.Limits) messages.Limits {
	if first.CPUs > 0 {
		second.CPUs = first.CPUs
	}
	if first.Memory > 0 {
		second.Memory = first.Memory
	}
	if first.Processes > 0 {
		second.Processes = first.Processes
	}
	if first.Disk > 0 {
		second.Disk = first.Disk
	}
	if first.Time > 0 {
		second.Time = first.Time
	}
	return second
}

// under returns the weights with those of a backend's setting before them. The
// setting was valid when it was read.
func (w weights) under(backend string, own []messages.Weight) weights {
	if len(own) == 0 {
		return w
	}
	rules := make([]Weight, 0, len(own)+len(w.rules))
	for _, rule := range own {
		rules = append(rules, Weight{Backend: backend, Workspace: rule.Workspace, Pattern: rule.Pattern, Slots: rule.Slots})
	}
	all, err := newWeights(append(rules, w.rules...))
	if err != nil {
		return w
	}
	return all
}
