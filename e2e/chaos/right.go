package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"sluice/messages"
)

// right reports every job that has not the one end that its study says, and
// more lost attempts than what struck can have cost.
func (d *desk) right(ctx context.Context, studies []*study, struck toll) error {
	var errs []error
	want := map[messages.JobID]bool{}
	doubled := 0
	for _, s := range studies {
		for _, wave := range s.waves {
			for _, q := range wave {
				for _, a := range q.actions {
					id := messages.NewJobID(q.id, a.name)
					want[id] = true
					if n := len(d.ends[id]); n > 1 {
						doubled += n - 1
					}
					if err := d.rightJob(ctx, s, q, a, id); err != nil {
						errs = append(errs, fmt.Errorf("%s, action %s (%s): %w", q.id, a.name, id, err))
					}
				}
			}
		}
	}
	attempts, lost, most, why := 0, 0, 0, map[string]int{}
	err := d.fleet.conn.JobsRegister().All(ctx, backend+".*.*", func(e messages.Entry[messages.Job]) {
		if e.Value != nil {
			attempts += e.Value.Attempt
			lost += len(e.Value.Lost)
			most = max(most, len(e.Value.Lost))
			for _, l := range e.Value.Lost {
				why[cause(l)]++
			}
			if !want[e.Value.ID] {
				errs = append(errs, fmt.Errorf("job %s of action %s in %s was never asked for", e.Value.ID, e.Value.Action, e.Value.Workspace))
			}
		}
	})
	bound := struck.mostLost()
	d.fleet.log.say("%d jobs, %d attempts of which %d were lost (at most %d can be), %d by one job; %d outcomes told again", len(want), attempts, lost, bound, most, doubled)
	for _, cause := range slices.Sorted(maps.Keys(why)) {
		d.fleet.log.say("%d lost: %s", why[cause], cause)
	}
	if bound > 0 && lost > bound { // a calm fleet may lose one, too, on a machine that is busy for seconds
		errs = append(errs, fmt.Errorf("%d attempts were lost, and at most %d can be: the storm struck %s", lost, bound, struck))
	}
	return errors.Join(append(errs, err)...)
}

// cause is why an attempt was lost, without what differs from one to the next.
func cause(l messages.Loss) string {
	text, _, _ := strings.Cut(l.Reason, ": ")
	if l.Worker != "" {
		text = strings.ReplaceAll(text, l.Worker, "W")
	}
	return text
}

func (d *desk) rightJob(ctx context.Context, s *study, q *request, a *action, id messages.JobID) error {
	entry, err := d.fleet.conn.JobsRegister().Get(ctx, messages.JobKey(backend, s.workspace, id))
	if err != nil {
		return err
	}
	job := entry.Value
	if job.Code != a.ends && !(a.racy && job.Code == messages.CancelledByUser) {
		return fmt.Errorf("it ended as %s (%s), and should as %s; lost attempts: %v", job.Code, job.Message, a.ends, job.Lost)
	}
	if len(d.ends[id]) == 0 {
		return fmt.Errorf("it ended as %s, and the job server was not told", job.Code)
	}
	if err := toldOnce(d.ends[id]); err != nil {
		return err
	}
	for _, told := range d.ends[id] {
		if told.Code != job.Code || told.State != job.State {
			return fmt.Errorf("its record says %s; the job server was told %s", job.Code, told.Code)
		}
	}
	for _, told := range d.finished[q.id].Jobs {
		if told.Job == id && told.Code != job.Code {
			return fmt.Errorf("its record says %s; the end of its request says %s", job.Code, told.Code)
		}
	}
	return d.rightCommit(ctx, job)
}

// toldOnce reports an end that was told by different messages. The same one may
// come twice, when a planner dies before it notes that it told.
func toldOnce(ends []told) error {
	ids := map[string]bool{}
	for _, told := range ends {
		ids[told.id] = true
	}
	if ids[""] {
		return errors.New("its end was told by a message without an id")
	}
	if len(ids) > 1 {
		return fmt.Errorf("its end was told by %d different messages: %v", len(ids), slices.Sorted(maps.Keys(ids)))
	}
	return nil
}

// rightCommit compares a job's record with the register of commits (I3).
func (d *desk) rightCommit(ctx context.Context, job *messages.Job) error {
	entry, err := d.fleet.conn.CommitsRegister().Get(ctx, messages.CommitKey(backend, job.ID))
	if errors.Is(err, messages.ErrNotFound) {
		if job.Code == messages.DependencyFailed || job.Attempt == 0 {
			return nil
		}
		return fmt.Errorf("it ended as %s after %d attempts without a commit", job.Code, job.Attempt)
	}
	if err != nil {
		return err
	}
	c := entry.Value
	switch {
	case c.Tombstone() && c.Code != job.Code:
		return fmt.Errorf("it ended as %s, and its tombstone says %s", job.Code, c.Code)
	case !c.Tombstone() && c.Manifest != job.Manifest:
		return fmt.Errorf("its record and its commit name different manifests")
	case !c.Tombstone() && c.Result.Code() != job.Code:
		return fmt.Errorf("it ended as %s, and its commit says %s", job.Code, c.Result.Code())
	}
	return nil
}

// whole reports files of a tier that no manifest speaks of, files that one
// speaks of and that are not there, and those of cancelled jobs.
func (d *desk) whole(s *study, files map[string]string) error {
	var errs []error
	for _, a := range s.actions {
		var left []string
		prefix := path.Join("high", s.workspace, "output", a.name) + "/"
		for name := range files {
			if strings.HasPrefix(name, prefix) {
				left = append(left, name)
			}
		}
		want := 0
		for _, wave := range s.waves {
			for _, q := range wave {
				for _, b := range q.actions {
					ends := d.ends[messages.NewJobID(q.id, a.name)]
					if b.name == a.name && len(ends) > 0 && ends[0].Code != messages.CancelledByUser && ends[0].Code != messages.DependencyFailed {
						want = a.files
					}
				}
			}
		}
		if len(left) != want {
			errs = append(errs, fmt.Errorf("%s has %d files, and should have %d", prefix, len(left), want))
		}
	}
	return errors.Join(errs...)
}
