package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"sluice/messages"
)

// remembered is for how long a request that nobody has answered counts as one
// that may still be: a planner may be away for days.
const remembered = 7 * 24 * time.Hour

// A name is a request of a backend.
type name struct {
	backend string
	id      messages.RequestID
}

// An asked request is one that lies in the stream of requests.
type asked struct {
	workspace string
	source    messages.Source
	at        time.Time // when the server stored the newest
}

// requests knows which requests were published, by whomever: one without an
// outcome has not been planned yet, and is no unknown one.
type requests struct {
	stream Stream
	now    func() time.Time

	mu   sync.Mutex
	next map[string]uint64 // by backend: where to read on
	seen map[name]asked
}

// read reads on to the end of what was published for a backend.
func (r *requests) read(ctx context.Context, backend string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	subject := messages.Prefix + ".request." + messages.Token(backend) + ".*"
	for {
		stored, err := r.stream.Next(ctx, subject, r.next[backend])
		if errors.Is(err, messages.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		r.next[backend] = stored.Sequence + 1
		var req messages.Request
		if r.now().Sub(stored.At) > remembered || messages.Decode(stored.Data, &req) != nil || req.Backend != backend {
			continue // the planner answers what cannot be decoded
		}
		r.seen[name{backend, req.ID}] = asked{workspace: req.Workspace, source: req.Source, at: stored.At}
	}
}

// find returns a request, as published last.
func (r *requests) find(ctx context.Context, n name) (asked, bool, error) {
	if err := r.read(ctx, n.backend); err != nil {
		return asked{}, false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a, ok := r.seen[n]
	if ok && r.now().Sub(a.at) > remembered {
		delete(r.seen, n)
		return asked{}, false, nil
	}
	return a, ok, nil
}
