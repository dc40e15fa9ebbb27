package gateway

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"sluice/messages"
)

// maxRaps bounds the requests that are remembered; one that is not is read again
// from the stream's beginning.
const maxRaps = 5000

// A rap is what outcomes have told of a request ("RAP" in the reference's
// words).
type rap struct {
	mu   sync.Mutex // one reader at a time
	next uint64     // where to read on
	seen seen

	// creating holds whoever asks for this request to be made, as one after
	// another.
	creating chan struct{}
}

// seen is the knowledge itself. Its jobs are those that the request has made,
// not those of earlier ones that it reuses.
type seen struct {
	accepted  bool
	workspace string
	source    *messages.Source
	jobs      []messages.JobOutcome
	listed    int // jobs of the list, with those that had no room in it

	answer   messages.OutcomeKind // the newest of accepted, rejected, finished
	answered uint64               // its sequence
	at       time.Time            // and when it was stored
	code     messages.Code
	reasons  []string
}

// settled reports whether it is known what a request has come to.
func (s *seen) settled() bool {
	switch s.answer {
	case messages.OutcomeRejected, messages.OutcomeFinished:
		return true
	case messages.OutcomeAccepted:
		return len(s.jobs) > 0
	}
	return false
}

// hear takes an outcome in.
func (s *seen) hear(o *messages.Outcome, sequence uint64, at time.Time) {
	switch o.Kind {
	case messages.OutcomeJob:
		s.job(o.Job)
		return
	case messages.OutcomeAccepted:
		s.accept(o)
	case messages.OutcomeFinished:
		if !s.accepted { // what came before is no longer kept
			s.accept(o)
		}
	}
	s.answer, s.answered, s.at, s.code, s.reasons = o.Kind, sequence, at, o.Code, o.Reasons
	for i := range o.Jobs {
		s.job(&o.Jobs[i])
	}
}

func (s *seen) accept(o *messages.Outcome) {
	s.accepted, s.workspace, s.source, s.listed = true, o.Workspace, o.Source, o.More
	for i := range o.Jobs {
		if !o.Jobs[i].Reused {
			s.listed++
		}
	}
}

// count returns how many jobs the request has made, those included that it is
// still being told of.
func (s *seen) count() int { return max(len(s.jobs), s.listed) }

// same reports whether a request is the one that made the jobs. Its actions are
// not compared, as in the reference.
func (s *seen) same(workspace string, source messages.Source) bool {
	return s.workspace == workspace && (s.source == nil || s.source.Repo == source.Repo && s.source.Commit == source.Commit)
}

// job takes the news of one job in. Outcomes may come twice and out of order;
// the end of a job is the end (I2).
func (s *seen) job(news *messages.JobOutcome) {
	if news.Reused {
		return
	}
	for i := range s.jobs {
		old := &s.jobs[i]
		if old.Job != news.Job {
			continue
		}
		run, database := old.Run, old.Database
		if !old.State.Final() && (news.State.Final() || !news.Updated.Before(old.Updated)) {
			*old = *news
		}
		if old.Run == "" {
			old.Run, old.Database = run, database
		}
		if old.Run == "" {
			old.Run, old.Database = news.Run, news.Database
		}
		return
	}
	if news.State != "" {
		s.jobs = append(s.jobs, *news)
	}
}

// raps remembers requests, and reads on about one when it is asked for.
type raps struct {
	stream Stream

	mu   sync.Mutex
	list map[name]*rap
}

// get returns the place of a request.
func (r *raps) get(n name) *rap {
	r.mu.Lock()
	defer r.mu.Unlock()
	if found := r.list[n]; found != nil {
		return found
	}
	for old := range r.list { // any: what is dropped costs a reader time, never truth
		if len(r.list) < maxRaps {
			break
		}
		delete(r.list, old)
	}
	made := &rap{creating: make(chan struct{}, 1)}
	r.list[n] = made
	return made
}

// read returns what is known of a request by now.
func (r *raps) read(ctx context.Context, n name) (seen, error) {
	place := r.get(n)
	place.mu.Lock()
	defer place.mu.Unlock()
	subject := (&messages.Outcome{Backend: n.backend, Request: n.id}).Subject()
	for {
		stored, err := r.stream.Next(ctx, subject, place.next)
		if errors.Is(err, messages.ErrNotFound) {
			s := place.seen
			s.jobs = append([]messages.JobOutcome(nil), s.jobs...)
			return s, nil
		}
		if err != nil {
			return seen{}, fmt.Errorf("read the outcomes of request %s: %w", n.id, err)
		}
		place.next = stored.Sequence + 1
		var o messages.Outcome
		if messages.Decode(stored.Data, &o) == nil && o.Request == n.id && o.Backend == n.backend {
			place.seen.hear(&o, stored.Sequence, stored.At)
		}
	}
}
