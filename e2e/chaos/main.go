package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"sluice/messages"
)

// options are the command line's.
type options struct {
	seed   uint64
	jobs   int
	budget time.Duration
	chance float64
	bin    string
	keep   bool
}

func main() {
	var o options
	flag.Uint64Var(&o.seed, "seed", 0, "what everything is drawn from; 0 for a new one")
	flag.IntVar(&o.jobs, "jobs", 300, "about how many")
	flag.DurationVar(&o.budget, "budget", 10*time.Minute, "about how long all may take; the storm is a third of it")
	flag.Float64Var(&o.chance, "faults", 0.02, "how likely a process dies, hangs or is cut off when it reaches a fault point for the first time")
	flag.StringVar(&o.bin, "bin", "bin", "folder of sluice-faults, nats-server and nats")
	flag.BoolVar(&o.keep, "keep", false, "keep the folder of a run that went well")
	flag.Parse()
	if o.seed == 0 {
		o.seed = rand.Uint64N(1_000_000) + 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := o.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\nchaos: FAILED. Once more: make chaos SEED=%d JOBS=%d BUDGET=%s\n%v\n", o.seed, o.jobs, o.budget, err)
		os.Exit(1)
	}
}

func (o options) run(ctx context.Context) (err error) {
	if o.bin, err = filepath.Abs(o.bin); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "sluice-chaos")
	if err != nil {
		return err
	}
	studies := drawStudies(rand.New(rand.NewPCG(o.seed, 1)), o.jobs) //nolint:gosec // not a secret
	length := o.budget / 3
	blows := drawStorm(rand.New(rand.NewPCG(o.seed, 2)), length) //nolint:gosec // not a secret
	jobs := 0
	for _, s := range studies {
		for _, wave := range s.waves {
			for _, q := range wave {
				jobs += len(q.actions)
			}
		}
	}
	fmt.Printf("chaos: seed %d, %d jobs in %d workspaces, %d faults in %v; logs in %s\n", o.seed, jobs, len(studies), len(blows), length, dir)

	prefix := fmt.Sprintf("sluice-chaos-%d/", os.Getpid())
	defer cleanUp(prefix, dir)
	images := exec.CommandContext(ctx, filepath.Join(o.bin, "../examples/images.sh"))
	images.Env = append(os.Environ(), "SLUICE_IMAGE_PREFIX="+prefix)
	if out, err := images.CombinedOutput(); err != nil {
		return fmt.Errorf("images.sh: %w: %s", err, out)
	}
	repos := map[string]messages.Source{}
	for _, s := range studies {
		repo := filepath.Join(dir, "repos", s.workspace)
		commit, err := makeRepo(repo, s)
		if err != nil {
			return err
		}
		repos[s.workspace] = messages.Source{Repo: repo, Branch: "main", Commit: commit}
	}
	play := func(name string, list []blow) (*ending, error) {
		f := &fleet{dir: filepath.Join(dir, name), bin: o.bin, prefix: prefix, log: newLog(os.Stdout, name), seed: o.seed, struck: map[string]int{}, tierSize: int64(256+4*o.jobs) << 20}
		if len(list) > 0 {
			f.chance = o.chance
		}
		return f.play(ctx, studies, repos, list, length)
	}
	before, err := play("calm", nil)
	if err != nil {
		return fmt.Errorf("in the calm run:\n%w", err)
	}
	after, err := play("storm", blows)
	if err != nil {
		return fmt.Errorf("in the storm:\n%w", err)
	}
	if err := compare(before, after); err != nil {
		return fmt.Errorf("the storm's tiers are not those of the calm run (-calm +storm):\n%w", err)
	}
	fmt.Printf("chaos: seed %d: every job has its one end, and %d files are byte for byte the calm run's\n", o.seed, len(before.files))
	if !o.keep {
		return os.RemoveAll(dir)
	}
	return nil
}

// An ending is what a run left.
type ending struct {
	files map[string]string // of the tiers, as normal.go makes them comparable
}

// play is one run: a fleet, its work, its storm, and the checks behind it.
func (f *fleet) play(ctx context.Context, studies []*study, repos map[string]messages.Source, blows []blow, length time.Duration) (e *ending, err error) {
	defer func() {
		if downErr := f.down(); downErr != nil {
			err = errors.Join(err, downErr)
		}
		if err == nil {
			err = f.leftBehind()
		}
	}()
	f.log.say("three servers, two planners, three workers, two persisters")
	if err := f.up(ctx); err != nil {
		return nil, err
	}
	if err := f.ready(ctx); err != nil {
		return nil, err
	}
	d := newDesk(f, repos, 3*length+3*time.Minute)
	spread := time.Duration(0)
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	raged := make(chan struct{})
	go func() {
		defer close(raged)
		if len(blows) > 0 {
			pause(work, 3*time.Second) // for the first jobs to begin
			f.rage(work, blows)
			f.heal()
			f.log.say("the storm is over; it struck %s", f.toll())
		}
	}()
	if len(blows) > 0 {
		spread = length
	}
	err = d.drive(work, studies, spread)
	cancel()
	<-raged
	if err != nil {
		return nil, errors.Join(err, f.describe(ctx))
	}
	f.log.say("all requests have finished")
	if err := f.settled(ctx); err != nil {
		return nil, err
	}
	if err := d.right(ctx, studies, f.toll()); err != nil {
		return nil, err
	}
	return f.read(ctx, d, studies)
}
