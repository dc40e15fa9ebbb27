package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/messages"
)

// save changes a job's record by compare-and-set, and tells the job server of a
// new code. A record that someone else has changed ends the session: this
// planner is no longer the only one.
func (s *session) save(ctx context.Context, j *job, change func(*messages.Job) error) error {
	next := *j.record
	if err := change(&next); err != nil {
		return err
	}
	key := messages.JobKey(next.Backend, next.Workspace, next.ID)
	revision, err := s.Jobs.Update(ctx, key, &next, j.revision)
	if errors.Is(err, messages.ErrTooLarge) { // the names are in the persister's own record, too
		slim(&next)
		revision, err = s.Jobs.Update(ctx, key, &next, j.revision)
	}
	if errors.Is(err, messages.ErrConflict) {
		revision, err = mine(ctx, s.Jobs, key, &next, err)
	}
	if err != nil {
		return fmt.Errorf("write job %s: %w", next.ID, err)
	}
	changed := next.Code != j.record.Code
	j.record, j.revision = &next, revision
	if changed {
		s.log.Debug().Str("job", string(next.ID)).Str("action", next.Action).Str("code", string(next.Code)).Int("attempt", next.Attempt).Msg("job changed")
		s.tellLater(&next, revision)
	}
	return nil
}

// slim makes a record small again beside what was planned: it leaves the names
// out of the result and keeps the counts, and shortens every sentence.
func slim(r *messages.Job) {
	const short = 100
	r.Message, r.Lost = clipTo(r.Message, short), slices.Clone(r.Lost)
	for i := range r.Lost {
		r.Lost[i].Reason = clipTo(r.Lost[i].Reason, short)
	}
	if r.Result == nil {
		return
	}
	out := *r.Result
	out.Leftover, out.Withheld, out.Refused, out.Raised = nil, nil, nil, nil
	out.Reason, out.Worker, out.ImageDigest = clipTo(out.Reason, short), clipTo(out.Worker, short), clipTo(out.ImageDigest, short)
	out.Unmatched = slices.Clone(out.Unmatched)
	for i := range out.Unmatched {
		out.Unmatched[i].Pattern, out.Unmatched[i].Nearest = clipTo(out.Unmatched[i].Pattern, short), nil
	}
	r.Result = &out
}

// set moves a job to a code.
func (s *session) set(ctx context.Context, j *job, code messages.Code, message string) error {
	return s.save(ctx, j, func(r *messages.Job) error { return r.Set(code, clip(message), s.Now()) })
}

// mine reads a key whose write was in conflict, and reports whether it has what
// was to be written: a write whose answer was lost.
func mine[T any](ctx context.Context, cell Cell[T], key string, want *T, conflict error) (messages.Revision, error) {
	entry, err := cell.Get(ctx, key)
	if err != nil {
		return 0, fmt.Errorf("%w (and then: %w)", conflict, err)
	}
	if entry.Value == nil || !same(entry.Value, want) {
		return 0, conflict
	}
	return entry.Revision, nil
}

// same compares what two values would be stored as.
func same[T any](a, b *T) bool {
	x, errA := json.Marshal(a)
	y, errB := json.Marshal(b)
	return errA == nil && errB == nil && string(x) == string(y)
}

// relatest changes an action's list of newest jobs. It begins with the list as it
// is known, or with none, and reads it where that is out of date.
func (s *session) relatest(ctx context.Context, key latestKey, known messages.Entry[messages.Latest], change func(*messages.Latest)) (messages.Entry[messages.Latest], error) {
	entry, name := known, messages.LatestKey(key.backend, key.workspace, key.action)
	for range 10 {
		next := messages.Latest{Action: key.action}
		var err error
		if entry.Value == nil {
			change(&next)
			entry.Revision, err = s.Latest.Create(ctx, name, &next)
		} else {
			next.Jobs = append(next.Jobs, entry.Value.Jobs...)
			if change(&next); slices.Equal(entry.Value.Jobs, next.Jobs) {
				return entry, nil
			}
			entry.Revision, err = s.Latest.Update(ctx, name, &next, entry.Revision)
		}
		switch {
		case err == nil:
			entry.Key, entry.Value = name, &next
			return entry, nil
		case !errors.Is(err, messages.ErrConflict):
			return entry, fmt.Errorf("write the newest jobs of %s: %w", key.action, err)
		}
		entry, err = s.Latest.Get(ctx, name)
		if errors.Is(err, messages.ErrNotFound) {
			entry = messages.Entry[messages.Latest]{}
		} else if err != nil {
			return entry, fmt.Errorf("read the newest jobs of %s: %w", key.action, err)
		}
	}
	return messages.Entry[messages.Latest]{}, fmt.Errorf("write the newest jobs of %s: %w, ten times", key.action, messages.ErrConflict)
}

// clip bounds a sentence that is kept in a record.
func clip(s string) string { return clipTo(s, 1000) }

func clipTo(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
