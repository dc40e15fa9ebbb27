package persister

import (
	"errors"
	"sync"
	"time"

	"sluice/messages"
)

// A stuck workspace has a change that is committed and cannot be finished: its
// other jobs wait for that. Their messages stay in the queue, which may hold any
// number of them and goes on with others meanwhile. Parked or judged, they would
// be attempts lost, and work of days with them, for what a person mends in a
// minute. So that many of them do not keep a persister busy, one try in a while
// is made for all of them, before anything is copied; the job whose change it is
// always tries.
type stuck struct {
	mu     sync.Mutex
	pauses map[string]pause // by workspace
}

type pause struct {
	until time.Time
	why   error
}

// stuckPause is how long the jobs of a stuck workspace make no try.
const stuckPause = 30 * time.Second

// wait returns why a workspace's jobs are to wait, or nil.
func (s *stuck) wait(workspace string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pauses[workspace]; now.Before(p.until) {
		return p.why
	}
	return nil
}

// tried hears how a try in a workspace ended.
func (s *stuck) tried(workspace string, err error, verdict messages.Verdict, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, there := s.pauses[workspace]
	switch {
	case errors.Is(err, ErrUnfinished) && !now.Before(p.until):
		if s.pauses == nil {
			s.pauses = map[string]pause{}
		}
		s.pauses[workspace] = pause{now.Add(stuckPause), err}
	case there && err == nil && verdict == messages.Persisted:
		delete(s.pauses, workspace)
	}
}
