package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/jetstream"
	"sluice/messages"
)

// inFlight is how many jobs of w5 are on their way at once.
const inFlight = 64

// A plane is a fleet without containers.
type plane struct {
	*jobServer
	children map[string]*child // by the first of its parts
	study    study
	dir      string
}

// startPlane starts a fleet without containers in one process, or each of the
// groups of parts in one of its own.
func (b *Bench) startPlane(ctx context.Context, name string, actions int, flags []string, groups ...string) (*plane, error) {
	_ = os.Remove(filepath.Join(b.scratch, name+"-"+groups[0]+".url")) // of an earlier start
	p := &plane{children: map[string]*child{}, dir: filepath.Join(b.scratch, name)}
	var err error
	if p.study, err = b.repository(ctx, actions); err != nil {
		return nil, err
	}
	b.say("starting a fleet without containers")
	b.onClose(p.halt)
	url := ""
	for _, parts := range groups {
		file := filepath.Join(b.scratch, name+"-"+parts+".url")
		args := []string{
			"bench-fleet", "--log-level=error", "--dir", p.dir, "--url-file", file, "--backend", backend, "--parts", parts,
			fmt.Sprintf("--slots=%d", inFlight), "--allow-local-repos", "--mirrors", filepath.Join(b.scratch, "mirrors"),
		}
		args = append(append(args, flags...), b.Args...)
		if url != "" {
			args = append(args, "--nats", url)
		}
		c, err := startChild(b.Program, args...)
		if err != nil {
			return nil, err
		}
		p.children[parts] = c
		if url, err = c.await(ctx, file); err != nil {
			return nil, err
		}
	}
	if p.jobServer, err = openJobServer(ctx, url, b.Log); err != nil {
		return nil, err
	}
	return p, nil
}

// halt ends the plane's processes, and leaves what they keep. It may be called
// again.
func (p *plane) halt() error {
	var errs []error
	if p.jobServer != nil {
		p.close()
	}
	for _, c := range p.children {
		errs = append(errs, c.stop())
	}
	return errors.Join(errs...)
}

// w5: the control plane alone, beside a bare program that passes the same
// messages on a server of its own.
func w5(ctx context.Context, b *Bench) error {
	p, err := b.startPlane(ctx, "plane", most, nil, "server,planner,worker,persister")
	if err != nil {
		return err
	}
	jobs, n := b.size(10_000), b.rounds(1)
	if err := p.jobs(ctx, min(jobs, 100), "warm"); err != nil {
		return err
	}
	writes, err := p.record(ctx)
	if err != nil {
		return err
	}
	bare, err := b.startReplay(ctx, writes)
	if err != nil {
		return err
	}
	var ours, raw, one []float64
	for i := range n {
		b.say("round %d of %d, ours", i+1, n)
		took, err := timed(func() error { return p.jobs(ctx, jobs, fmt.Sprintf("w5-%d", i)) })
		if err != nil {
			return err
		}
		ours = append(ours, float64(jobs)/took.Seconds())
		for _, turn := range []struct {
			to     *[]float64
			atOnce int
		}{{&raw, inFlight}, {&one, 1}} {
			b.say("round %d of %d, bare messages of %d jobs at once", i+1, n, turn.atOnce)
			some := max(jobs/5, 1)
			took, err := timed(func() error { return bare.run(ctx, some, turn.atOnce) })
			if err != nil {
				return err
			}
			*turn.to = append(*turn.to, float64(some)/took.Seconds())
		}
	}
	b.add(fmt.Sprintf("%d jobs without containers, %d at once", jobs, inFlight), "jobs/s", sample(ours, true),
		fmt.Sprintf("the same %d messages a job, stored and taken bare, %d jobs at once", len(writes), inFlight), sample(raw, true), ">= 0.5")
	b.add(fmt.Sprintf("%d jobs without containers, %d at once", jobs, inFlight), "jobs/s", sample(ours, true),
		"the same messages, bare, one job at a time", sample(one, true), "")
	return nil
}

// each is how many jobs a request has.
const each = 100

// jobs runs so many no-op jobs, each request in a workspace of its own.
func (p *plane) jobs(ctx context.Context, n int, name string) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := 0; n > 0; i, n = i+1, n-min(n, each) {
		actions := noops(min(n, each))
		group.Go(func() error { return p.run(ctx, p.study.Source, fmt.Sprintf("%s-%d", name, i), actions...) })
	}
	return group.Wait()
}

// record lists what is written for one job, in order.
func (p *plane) record(ctx context.Context) ([]jetstream.Tapped, error) {
	heard, err := p.hear(ctx, func() error { return p.jobs(ctx, 1, "record") })
	if err != nil {
		return nil, err
	}
	id := jobOf(heard)
	writes := slices.DeleteFunc(heard, func(t jetstream.Tapped) bool {
		return !strings.Contains(t.Subject, id) && !strings.HasPrefix(t.Subject, messages.Prefix+".outcome.")
	})
	for i := range writes {
		writes[i].Subject = strings.ReplaceAll(writes[i].Subject, id, jobMark)
	}
	return writes, nil
}

// aftermath is how long what follows the last outcome is waited for.
const aftermath = 500 * time.Millisecond

// hear lists what anybody publishes while do runs and shortly after, but for
// renewals that no job asks for.
func (s *jobServer) hear(ctx context.Context, do func() error) ([]jetstream.Tapped, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var heard []jetstream.Tapped
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- s.conn.Tap(ctx, []string{messages.Prefix + ".>", "$KV.>"}, func() { close(ready) }, func(t jetstream.Tapped) {
			if !slices.ContainsFunc(unstored, func(prefix string) bool { return strings.HasPrefix(t.Subject, prefix) }) {
				heard = append(heard, t)
			}
		})
	}()
	select {
	case <-ready:
	case err := <-ended:
		return nil, err
	}
	if err := do(); err != nil {
		return nil, err
	}
	if err := pause(ctx, aftermath); err != nil {
		return nil, err
	}
	stop()
	if err := <-ended; err != nil {
		return nil, err
	}
	if jobOf(heard) == "" {
		return nil, errors.New("nothing was heard of a job that ran")
	}
	return heard, nil
}

// unstored are subjects that no job has written: presence, and what the server
// or the planner repeats without keeping it.
var unstored = []string{"$KV." + jetstream.Fleet + ".", messages.Prefix + ".control.", messages.Prefix + ".verdict."}

// jobOf returns the id of the job that was dispatched.
func jobOf(heard []jetstream.Tapped) string {
	for _, t := range heard {
		if place, err := messages.ParseSubject(t.Subject); err == nil && place.Kind == "action" {
			return string(place.Job)
		}
	}
	return ""
}

// jobMark stands for the job's id in recorded subjects.
const jobMark = "JOBMARK"

// A replay passes recorded messages again, as fast as it can: what was stored is
// stored, and what somebody takes and acknowledges is taken and acknowledged.
type replay struct {
	conn   *jetstream.Conn
	writes []jetstream.Tapped
	queues map[string]*jetstream.Queue // by the kind of message
	next   atomic.Int64
}

// startReplay starts a server with the same streams and nobody behind them.
func (b *Bench) startReplay(ctx context.Context, writes []jetstream.Tapped) (*replay, error) {
	p, err := b.startPlane(ctx, "bare-server", most, nil, "server")
	if err != nil {
		return nil, err
	}
	pool := ""
	for _, w := range writes {
		if place, err := messages.ParseSubject(w.Subject); err == nil && place.Kind == "action" {
			pool = place.Pool
		}
	}
	queue := func(stream, consumer string) *jetstream.Queue { return p.conn.Queue(stream, consumer, "bench") }
	return &replay{conn: p.conn, writes: writes, queues: map[string]*jetstream.Queue{
		"action": queue(jetstream.Actions, jetstream.WorkerConsumer(backend, pool)),
		"files":  queue(jetstream.Files, jetstream.PersisterConsumer(backend)),
		"event":  queue(jetstream.Events, jetstream.PlannerConsumer),
	}}, nil
}

// run passes the messages of n jobs, so many jobs at once, those of one job one
// after another.
func (r *replay) run(ctx context.Context, n, atOnce int) error {
	return inParallel(ctx, n, atOnce, func(ctx context.Context) error {
		id := fmt.Sprintf("job%d", r.next.Add(1))
		for _, w := range r.writes {
			w.Subject = strings.ReplaceAll(w.Subject, jobMark, id)
			if err := r.conn.Repeat(ctx, w, id); err != nil {
				return err
			}
			if q := r.queues[kindOf(w.Subject)]; q != nil {
				if err := pass(ctx, q); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pass takes one message out of a queue: that of this job, or of one beside it.
func pass(ctx context.Context, q *jetstream.Queue) error {
	d, err := q.Next(ctx)
	if err != nil {
		return err
	}
	return d.Settle(ctx, nil)
}

func kindOf(subject string) string {
	place, err := messages.ParseSubject(subject)
	if err != nil {
		return "" // a register's
	}
	return place.Kind
}
