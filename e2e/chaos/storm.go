package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/internal/fault"
)

// A blow is one fault, drawn from the seed: when, which, whom, for how long.
type blow struct {
	at   time.Duration
	kind string
	whom int // a number that its kind of target is chosen by
	hold time.Duration
}

// Kinds of blows.
const (
	kill    = "kill -9"
	upgrade = "SIGTERM and restart"
	freeze  = "SIGSTOP"
	cutOff  = "cut the connections of"
	stall   = "stall the connections of"
	server  = "kill -9 the server"
	halt    = "SIGSTOP the server"
	reload  = "SIGTERM the server"
	quorum  = "kill -9 two servers of"
	leader  = "kill -9 both planners, with"
	engine  = "take the engine away from"
	hanging = "have the engine not answer"
	full    = "fill the tier"
)

// drawStorm draws faults for a time: one every second and a half or so.
func drawStorm(r *rand.Rand, length time.Duration) []blow {
	kinds := []struct {
		kind      string
		odds      int
		low, high time.Duration // of hold
	}{
		{kill, 8, 0, 3 * time.Second},
		{kill, 2, 3 * time.Second, leaseTTL + leaseGrace + 4*time.Second},
		{upgrade, 4, 0, time.Second},
		{freeze, 3, 100 * time.Millisecond, leaseTTL},
		{freeze, 3, leaseTTL + leaseGrace, leaseTTL + leaseGrace + 6*time.Second},
		{cutOff, 4, 0, 8 * time.Second},
		{stall, 3, time.Second, 12 * time.Second},
		{server, 3, 0, 3 * time.Second},
		{halt, 1, time.Second, 5 * time.Second},
		{reload, 1, 0, 2 * time.Second},
		{quorum, 1, 0, 3 * time.Second},
		{leader, 1, 0, 2 * time.Second},
		{engine, 2, time.Second, 12 * time.Second},
		{hanging, 2, time.Second, 3 * engineTimeout},
		{full, 2, time.Second, 10 * time.Second},
	}
	sum := 0
	for _, k := range kinds {
		sum += k.odds
	}
	var list []blow
	for at := time.Duration(0); ; {
		at += time.Duration((0.2 + r.ExpFloat64()) * float64(1300*time.Millisecond))
		n, whom, hold := r.IntN(sum), r.IntN(1000), r.Float64()
		if at > length {
			return list
		}
		for _, k := range kinds {
			if n -= k.odds; n < 0 {
				list = append(list, blow{at, k.kind, whom, k.low + time.Duration(hold*float64(k.high-k.low))})
				break
			}
		}
	}
}

// drawFaults draws what happens at the fault points of one life of a service:
// something at any, with a probability; or, so that the rare ones have their
// turn, at three of its own. Mostly it dies.
func drawFaults(command string, seed uint64, chance float64) string {
	r := rand.New(rand.NewPCG(seed, 3)) //nolint:gosec // not a secret
	if r.IntN(2) == 0 {
		return fmt.Sprintf("random:%d:%g:%s", seed, chance, drawFault(r))
	}
	var own []string
	for _, p := range fault.Points {
		if strings.HasPrefix(p.Name, command+".") {
			own = append(own, p.Name)
		}
	}
	var list []string
	for _, i := range r.Perm(len(own))[:3] {
		list = append(list, fmt.Sprintf("%s=%s@%d", own[i], drawFault(r), 1+r.IntN(4)))
	}
	return strings.Join(list, ",")
}

// drawFault draws what happens at a fault point: as package fault reads it.
func drawFault(r *rand.Rand) string {
	switch n := r.IntN(10); {
	case n < 6:
		return "die"
	case n < 8:
		return fmt.Sprintf("cut:%dms", 500+r.IntN(7500))
	}
	return "hang" // endHangs ends it
}

// rage does the blows at their times. A target that one is at work on already
// is spared another.
func (f *fleet) rage(ctx context.Context, list []blow) {
	var all sync.WaitGroup
	defer all.Wait()
	began := time.Now()
	for _, b := range list {
		if !pause(ctx, b.at-time.Since(began)) {
			return
		}
		all.Go(func() { f.strike(ctx, b) })
	}
}

func (f *fleet) strike(ctx context.Context, b blow) {
	s, n := f.all[b.whom%len(f.all)], f.servers[b.whom%len(f.servers)]
	switch b.kind {
	case kill, upgrade, freeze, cutOff, stall:
		f.onto(&s.process, b, func() { f.strikeService(ctx, s, b) })
	case server:
		f.onto(n, b, func() { <-n.signal(syscall.SIGKILL, true, b.hold); pause(ctx, b.hold) })
	case reload:
		f.onto(n, b, func() { <-n.signal(syscall.SIGTERM, true, b.hold); pause(ctx, b.hold) })
	case halt:
		f.onto(n, b, func() { frozen(ctx, n, b.hold) })
	case quorum:
		other := f.servers[(b.whom+1)%len(f.servers)]
		f.onto(n, b, func() {
			f.onto(other, b, func() {
				first, second := n.signal(syscall.SIGKILL, true, b.hold), other.signal(syscall.SIGKILL, true, b.hold)
				<-first
				<-second
				pause(ctx, b.hold)
			})
		})
	case engine, hanging:
		list := f.engines()
		f.strikeEngine(ctx, list[b.whom%len(list)], b)
	case full:
		f.strikeTier(ctx, b)
	case leader:
		for _, s := range f.all {
			if s.args[0] == "planner" {
				f.onto(&s.process, b, func() { s.signal(syscall.SIGKILL, true, b.hold) })
			}
		}
	}
}

// onto has a fault work on a process, unless another does.
func (f *fleet) onto(p *process, b blow, do func()) {
	if !p.busy.TryLock() {
		f.log.say("(%s %s: it is struck already)", b.kind, p.name)
		return
	}
	defer p.busy.Unlock()
	f.strikes(p.name)
	f.log.say("%s %s, %.1f s", b.kind, p.name, b.hold.Seconds())
	do()
}

func (f *fleet) strikeService(ctx context.Context, s *service, b blow) {
	switch b.kind {
	case kill:
		<-s.signal(syscall.SIGKILL, true, b.hold)
		pause(ctx, b.hold)
	case upgrade:
		s.restart(b.hold)
	case freeze:
		frozen(ctx, &s.process, b.hold)
	case cutOff:
		s.link.cut()
		pause(ctx, b.hold)
		s.link.mend()
	case stall:
		s.link.stall()
		pause(ctx, b.hold)
		s.link.mend()
	}
}

// strikeEngine takes a worker's engine away, or has it not answer, whatever else
// happens to the worker meanwhile.
func (f *fleet) strikeEngine(ctx context.Context, s *service, b blow) {
	if !s.engine.busy.TryLock() {
		f.log.say("(%s %s: it is struck already)", b.kind, s.name)
		return
	}
	defer s.engine.busy.Unlock()
	f.strikes(s.name) // an attempt of each of its slots, at most: then it takes nothing
	f.log.say("%s %s, %.1f s", b.kind, s.name, b.hold.Seconds())
	if b.kind == engine {
		s.engine.cut()
	} else {
		s.engine.stall()
	}
	pause(ctx, b.hold)
	s.engine.mend()
}

// frozen stops a process's clock for a time.
func frozen(ctx context.Context, p *process, d time.Duration) {
	p.signal(syscall.SIGSTOP, false, 0)
	pause(ctx, d)
	p.signal(syscall.SIGCONT, false, 0)
}

// patience is how long a process may take to end after SIGTERM, on a machine
// that is slow: one that does not end at all is the fault.
const patience = 2 * time.Minute

// heal ends the storm: each service starts afresh, without fault points.
func (f *fleet) heal() {
	f.calm.Store(true)
	var all sync.WaitGroup
	for _, s := range f.all {
		s.link.mend()
		if s.engine != nil {
			s.engine.mend()
		}
		all.Go(func() {
			s.busy.Lock()
			defer s.busy.Unlock()
			if f.chance > 0 {
				<-s.signal(syscall.SIGKILL, true, 0)
			}
		})
	}
	all.Wait()
}
