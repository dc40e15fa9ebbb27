package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/jetstream"
	"sluice/messages"
)

// Shape of the history that growth makes: what 100,000 jobs of a site are.
const (
	historyWorkspaces = 1000
	historyActions    = 100
)

// growth: does a job take longer, and does a service take more memory, the more
// jobs have been? Fleets of separate processes, with histories of different
// length, run the same jobs in turns.
func growth(ctx context.Context, b *Bench) error {
	sizes := []int{1_000, 10_000, 100_000}
	if b.Size > 0 {
		sizes = []int{max(b.Size/100, 1), max(b.Size/10, 1), b.Size}
	}
	planes := make([]*plane, len(sizes))
	for i, size := range sizes {
		name := fmt.Sprintf("growth-%d", size)
		if err := b.makeHistory(ctx, name, size); err != nil {
			return err
		}
		began := time.Now()
		p, err := b.startPlane(ctx, name, few, nil, "server", "planner", "worker", "persister")
		if err != nil {
			return err
		}
		if err := p.someJobs(ctx, few); err != nil {
			return err
		}
		b.add(fmt.Sprintf("start of the processes to the first outcome, %d jobs before", size), "ms", times([]time.Duration{time.Since(began)}), "", Sample{}, "")
		planes[i] = p
	}
	n, jobs := b.rounds(10), 20*few
	took := make([][]time.Duration, len(sizes))
	for i := range n + 1 { // the first turn warms up
		for k, p := range planes {
			b.say("round %d of %d, %d jobs before", i, n, sizes[k])
			t, err := timed(func() error { return p.someJobs(ctx, jobs) })
			if err != nil {
				return err
			}
			if i > 0 {
				took[k] = append(took[k], t/time.Duration(jobs))
			}
		}
	}
	for k, size := range sizes {
		against, base := "", Sample{}
		if k > 0 {
			against, base = fmt.Sprintf("with %d jobs before", sizes[0]), times(took[0])
		}
		b.add(fmt.Sprintf("time per job, %d at once, %d jobs before", inFlight, size), "ms", times(took[k]), against, base, "<= 1.2")
	}
	for k, size := range sizes {
		for _, part := range []string{"server", "planner", "worker", "persister"} {
			mb, err := planes[k].children[part].memory()
			if err != nil {
				return err
			}
			b.add(fmt.Sprintf("resident memory of the %s, %d jobs before", part, size), "MiB", sample([]float64{mb}, false), "", Sample{}, "")
		}
	}
	return nil
}

// someJobs runs so many no-op jobs, ten a request, in workspaces that the
// history has.
func (p *plane) someJobs(ctx context.Context, n int) error {
	group, ctx := errgroup.WithContext(ctx)
	for i := range n / few {
		group.Go(func() error {
			return p.run(ctx, p.study.Source, fmt.Sprintf("h%d", (i*37+7)%historyWorkspaces), noops(few)...)
		})
	}
	return group.Wait()
}

// makeHistory fills a store with what so many jobs leave in registers and
// outcomes. The writes are those of a job that ran, with other names; syncing
// each would take the better part of an hour.
func (b *Bench) makeHistory(ctx context.Context, name string, size int) error {
	b.say("making a history of %d jobs", size)
	p, err := b.startPlane(ctx, name, few, []string{"--no-sync"}, "server,planner,worker,persister")
	if err != nil {
		return err
	}
	defer func() { _ = p.halt() }() // a second time does nothing
	heard, err := p.hear(ctx, func() error { return p.run(ctx, p.study.Source, "template", "noop0") })
	if err != nil {
		return err
	}
	var job messages.Job
	var left []jetstream.Tapped
	for _, t := range heard {
		if !strings.HasPrefix(t.Subject, "$KV.") && !strings.HasPrefix(t.Subject, messages.Prefix+".outcome.") {
			continue
		}
		left = append(left, t)
		if strings.HasSuffix(t.Subject, "."+jobOf(heard)) && strings.HasPrefix(t.Subject, "$KV."+jetstream.Jobs+".") {
			if err := messages.Decode(t.Data, &job); err != nil {
				return err
			}
		}
	}
	if job.ID == "" {
		return errors.New("no record was heard of a job that ran")
	}
	if err := p.halt(); err != nil {
		return err
	}
	if p, err = b.startPlane(ctx, name, few, []string{"--no-sync"}, "server"); err != nil {
		return err
	}
	i, k := 0, -1
	err = p.conn.Load(ctx, func() (string, []byte, bool) {
		if k++; k == len(left) {
			i, k = i+1, 0
		}
		if i == size {
			return "", nil, false
		}
		return rename(left[k], &job, i)
	})
	return errors.Join(err, p.halt())
}

// rename makes of a message of the template's job that of another.
func rename(t jetstream.Tapped, job *messages.Job, i int) (subject string, data []byte, ok bool) {
	request, action := messages.RequestID(fmt.Sprintf("history-%d", i)), fmt.Sprintf("noop%d", i/historyWorkspaces%historyActions)
	subject, data = t.Subject, t.Data
	for _, r := range [][2]string{
		{string(job.ID), string(messages.NewJobID(request, action))}, {string(job.Request), string(request)},
		{job.Workspace, fmt.Sprintf("h%d", i%historyWorkspaces)}, {job.Action, action},
	} {
		subject = strings.ReplaceAll(subject, r[0], r[1])
		data = bytes.ReplaceAll(data, []byte(r[0]), []byte(r[1]))
	}
	return subject, data, true
}
