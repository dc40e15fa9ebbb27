package planner

import (
	"time"

	"sluice/messages"
)

// The state is what the active planner knows. All of it can be read back from
// the registers; it has only jobs that have not ended, and of the others what
// became of those that a Latest list names.
type state struct {
	since    time.Time // the connection has been up since then
	jobs     map[jobKey]*job
	waiters  map[jobKey][]*job // who waits for a job
	past     map[jobKey]ended
	latest   map[latestKey]*latest
	requests map[requestKey]*request
	backends map[string]*backend
	orphans  map[leaseKey]*orphan
	alarms   map[*job]time.Time
	doomed   map[*job]bool // whose needs have failed
}

func newState(now time.Time) state {
	return state{
		since: now, jobs: map[jobKey]*job{}, waiters: map[jobKey][]*job{}, past: map[jobKey]ended{}, latest: map[latestKey]*latest{},
		requests: map[requestKey]*request{}, backends: map[string]*backend{}, orphans: map[leaseKey]*orphan{}, alarms: map[*job]time.Time{}, doomed: map[*job]bool{},
	}
}

// Job ids are made from request ids, which job servers choose: they name a job
// together with its backend.
type (
	jobKey struct {
		backend string
		id      messages.JobID
	}
	latestKey  struct{ backend, workspace, action string }
	requestKey struct {
		backend string
		id      messages.RequestID
	}
	leaseKey struct {
		jobKey
		attempt int
	}
)

func keyOf(j *messages.Job) jobKey { return jobKey{j.Backend, j.ID} }

// A job is one that has not ended.
type job struct {
	key       jobKey
	record    *messages.Job // never changed, replaced
	revision  messages.Revision
	waits     int    // jobs in WaitFor that have not succeeded
	doom      string // the action that it needs and that has failed
	lease     held   // of the newest attempt
	place     *Candidate
	published time.Time // when its action was last published by this session
	gone      int       // how often it left its queue since, claimed by nobody
	discarded time.Time // when a persister said that it keeps nothing of the newest attempt
}

// held is what is known of a lease.
type held struct {
	state    messages.LeaseState // empty: no lease is known, or it has expired
	owner    string
	expired  bool
	at       time.Time // of the write or the expiry, by the server's clock
	revision messages.Revision
}

// over reports whether the attempt takes up no slot any more.
func (h held) over() bool {
	return h.state == messages.LeaseReleased || h.state == messages.LeaseFenced
}

// counts reports whether a worker has, or may have, the attempt.
func (h held) counts() bool {
	return h.state == messages.LeaseHeld || h.state == messages.LeaseStopping || h.expired
}

// inFlight reports whether the job takes up slots of its pool.
func (j *job) inFlight() bool {
	if j.record.State == messages.Running {
		return !j.lease.over()
	}
	return j.lease.counts()
}

// ended is what later requests and jobs want to know of a job.
type ended struct {
	action   string
	state    messages.State
	created  time.Time
	manifest string
}

// latest is an action's newest jobs.
type latest struct {
	list     []messages.JobID
	revision messages.Revision
}

// A request has jobs that have not ended.
type request struct {
	workspace string
	open      int
	patterns  []string // of the whole project, for a WorkingFolder
	ended     told     // its jobs that have ended in this session
}

func newRequest(workspace string) *request { return &request{workspace: workspace, ended: told{}} }

// An orphan is an attempt of a job that has ended, on a worker that does not
// know it yet. It takes up its slots until the worker says that it is gone.
type orphan struct {
	workspace string
	pool      string
	weight    float64
	lease     held
	since     time.Time
}

// A backend is what is known of one.
type backend struct {
	name     string
	setting  messages.Setting
	revision messages.Revision // of the setting
	workers  map[string]worker // by key
	jobs     map[jobKey]*job
	tried    map[jobKey]*job // those that were ever dispatched
	backlog  Backlog
	labels   map[*job]bool // records that do not say why the job waits
	dirty    bool          // something has changed that lets jobs start
}

type worker struct {
	presence *messages.Presence // nil once it has expired
	revision messages.Revision
}

func (s *state) backend(name string) *backend {
	b := s.backends[name]
	if b == nil {
		b = &backend{name: name, workers: map[string]worker{}, jobs: map[jobKey]*job{}, tried: map[jobKey]*job{}, labels: map[*job]bool{}}
		s.backends[name] = b
	}
	return b
}

// keep begins to know a job that has not ended. It returns the jobs in its
// WaitFor of which nothing is known.
func (s *state) keep(j *job) (unknown []messages.JobID) {
	s.jobs[j.key] = j
	b := s.backend(j.key.backend)
	b.jobs[j.key] = j
	if j.record.Attempt > 0 {
		b.tried[j.key] = j
	}
	for _, id := range j.record.WaitFor {
		key := jobKey{j.key.backend, id}
		past, over := s.past[key]
		switch {
		case s.jobs[key] != nil:
			j.waits++
			s.waiters[key] = append(s.waiters[key], j)
		case !over:
			unknown = append(unknown, id)
		case past.state != messages.Succeeded:
			j.doom = past.action
		}
	}
	return unknown
}

// forget lets go of a job that has ended. What a Latest list names stays.
func (s *state) forget(j *job) {
	b := s.backend(j.key.backend)
	b.unplace(j)
	delete(b.labels, j)
	delete(b.jobs, j.key)
	delete(b.tried, j.key)
	delete(s.jobs, j.key)
	delete(s.alarms, j)
	delete(s.waiters, j.key)
	b.dirty = true
}

// unplace takes a job out of the backlog.
func (b *backend) unplace(j *job) {
	if j.place != nil {
		b.backlog.Remove(j.place)
		j.place = nil
	}
}

// standing returns what a request finds of an action: its newest job.
func (s *state) standing(key latestKey) (Standing, bool) {
	l := s.latest[key]
	if l == nil {
		return Standing{}, false
	}
	for _, id := range l.list {
		k := jobKey{key.backend, id}
		if j := s.jobs[k]; j != nil && j.record.Wanted != messages.CancelledByUser {
			return Standing{Job: id, State: j.record.State}, true
		}
		if past, ok := s.past[k]; ok {
			return Standing{Job: id, State: past.state}, true
		}
	}
	return Standing{}, false
}

// listed returns an action's list of newest jobs as the register has it, as far as
// is known here; an entry without a value is not known.
func (s *state) listed(key latestKey) messages.Entry[messages.Latest] {
	l := s.latest[key]
	if l == nil {
		return messages.Entry[messages.Latest]{}
	}
	return messages.Entry[messages.Latest]{Revision: l.revision, Value: &messages.Latest{Action: key.action, Jobs: l.list}}
}

// relist takes over a newer Latest list, and drops what no list names any more.
func (s *state) relist(key latestKey, list []messages.JobID, revision messages.Revision) {
	old := s.latest[key]
	if old != nil && old.revision >= revision {
		return
	}
	s.latest[key] = &latest{list: list, revision: revision}
	if old == nil {
		return
	}
	named := make(map[messages.JobID]bool, len(list))
	for _, id := range list {
		named[id] = true
	}
	for _, id := range old.list {
		if !named[id] {
			delete(s.past, jobKey{key.backend, id})
		}
	}
}
