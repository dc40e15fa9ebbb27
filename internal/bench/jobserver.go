package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/messages"
)

// A jobServer publishes requests and hears outcomes, as a site's does.
type jobServer struct {
	conn *jetstream.Conn
	stop context.CancelFunc // may be called again, as close may
	done chan struct{}

	mu      sync.Mutex
	waiting map[messages.RequestID]chan error
}

func openJobServer(ctx context.Context, url string, log zerolog.Logger) (*jobServer, error) {
	conn, err := openConn(ctx, jetstream.Options{URL: url, Name: "sluice bench", Log: log})
	if err != nil {
		return nil, err
	}
	// Nothing is asked for before this is open. To read what was told of a long
	// history would take longer than what is measured.
	since := time.Now().Add(-time.Second)
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	s := &jobServer{conn: conn, stop: stop, done: make(chan struct{}), waiting: map[messages.RequestID]chan error{}}
	go func() {
		defer close(s.done)
		subject := messages.Prefix + ".outcome." + messages.Token(backend) + ".>"
		err := conn.Follow(following, jetstream.Outcomes, subject, jetstream.Start{Since: since}, func(f jetstream.Followed) bool {
			s.heard(f)
			return true
		})
		s.fail(errors.Join(errors.New("outcomes cannot be followed any more"), err))
	}()
	return s, nil
}

func (s *jobServer) close() {
	s.stop()
	<-s.done
	s.conn.Close()
}

// heard settles a request's wait with its last outcome.
func (s *jobServer) heard(f jetstream.Followed) {
	var o messages.Outcome
	if messages.Decode(f.Data, &o) != nil {
		return
	}
	var err error
	switch o.Kind {
	case messages.OutcomeRejected:
		err = fmt.Errorf("the request was rejected: %v", o.Reasons)
	case messages.OutcomeFinished:
		for _, j := range o.Jobs {
			if j.State != messages.Succeeded {
				err = fmt.Errorf("action %s ended as %s: %s", j.Action, j.Code, j.Message)
			}
		}
	default:
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch := s.waiting[o.Request]; ch != nil {
		delete(s.waiting, o.Request)
		ch <- err
	}
}

func (s *jobServer) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, ch := range s.waiting {
		delete(s.waiting, id)
		ch <- err
	}
}

// patience bounds one request: a fleet that stands still is an error.
const patience = 10 * time.Minute

// run publishes a request and waits until all its jobs have succeeded.
func (s *jobServer) run(ctx context.Context, source messages.Source, workspace string, actions ...string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no outcome came within %s", patience))
	defer cancel()
	r := &messages.Request{ID: messages.RequestID(rand.Text()), Backend: backend, Workspace: workspace, Source: source, Actions: actions}
	end := make(chan error, 1)
	s.mu.Lock()
	s.waiting[r.ID] = end
	s.mu.Unlock()
	if err := s.conn.Publish(ctx, r.Subject(), r, ""); err != nil {
		return err
	}
	select {
	case err := <-end:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
