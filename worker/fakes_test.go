package worker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/messages"
)

var errDown = errors.New("no server answers")

// A memLeases is the register of leases, in memory, by the clock of the test.
type memLeases struct {
	mu      sync.Mutex
	entries map[string]*memLease
	last    messages.Revision
	down    bool                     // no call gets through
	deaf    bool                     // writes get through, their answers do not
	slow    map[string]chan struct{} // keys whose creation waits until the channel is closed
}

type memLease struct {
	value    messages.Lease
	revision messages.Revision
	at       time.Time
	expires  time.Time
}

func (l *memLeases) get(key string) (messages.Entry[messages.Lease], bool) {
	e := l.entries[key]
	if e == nil {
		return messages.Entry[messages.Lease]{}, false
	}
	entry := messages.Entry[messages.Lease]{Key: key, Revision: e.revision, At: e.at}
	if time.Now().Before(e.expires) {
		value := e.value
		entry.Value = &value
		return entry, true
	}
	if e.value.State != "" { // the marker is a write of its own
		l.last++
		e.value, e.revision = messages.Lease{}, l.last
	}
	entry.Revision, entry.Expired = e.revision, true
	return entry, true
}

func (l *memLeases) Get(_ context.Context, key string) (messages.Entry[messages.Lease], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return messages.Entry[messages.Lease]{}, errDown
	}
	entry, ok := l.get(key)
	if !ok {
		return entry, messages.ErrNotFound
	}
	return entry, nil
}

func (l *memLeases) Create(ctx context.Context, key string, value *messages.Lease, ttl time.Duration) (messages.Revision, error) {
	l.mu.Lock()
	slow := l.slow[key]
	l.mu.Unlock()
	if slow != nil {
		<-slow
	}
	return l.Update(ctx, key, value, 0, ttl)
}

func (l *memLeases) Update(_ context.Context, key string, value *messages.Lease, last messages.Revision, ttl time.Duration) (messages.Revision, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return 0, errDown
	}
	if now, _ := l.get(key); now.Revision != last {
		return 0, messages.ErrConflict
	}
	if err := value.Validate(); err != nil {
		return 0, err
	}
	l.last++
	l.entries[key] = &memLease{value: *value, revision: l.last, at: time.Now(), expires: time.Now().Add(ttl)}
	if l.deaf {
		return 0, errDown
	}
	return l.last, nil
}

// set writes what a planner would write.
func (l *memLeases) set(t *testing.T, key string, change func(*messages.Lease)) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	now, ok := l.get(key)
	value := messages.Lease{Owner: "planner", Nonce: "planner"}
	if ok && now.Value != nil {
		value = *now.Value
	}
	change(&value)
	l.last++
	l.entries[key] = &memLease{value: value, revision: l.last, at: time.Now(), expires: time.Now().Add(7 * 24 * time.Hour)}
}

func (l *memLeases) state(key string) messages.LeaseState {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, ok := l.get(key)
	switch {
	case !ok:
		return "none"
	case now.Value == nil:
		return "expired"
	}
	return now.Value.State
}

func (l *memLeases) break_(down, deaf bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down, l.deaf = down, deaf
}

// A memOutbox keeps what is published.
type memOutbox struct {
	mu     sync.Mutex
	sent   []messages.Message
	ids    map[string]bool
	refuse func(messages.Message) error // nil lets all through; errBlocks waits for the context's end
}

var errBlocks = errors.New("no answer")

func (o *memOutbox) Publish(ctx context.Context, subject string, m messages.Message, id string) error {
	data, err := messages.Encode(m)
	if err != nil {
		return err
	}
	for {
		o.mu.Lock()
		refuse := o.refuse
		o.mu.Unlock()
		if refuse == nil {
			break
		}
		err := refuse(m)
		if err == nil {
			break
		}
		if !errors.Is(err, errBlocks) {
			return err
		}
		select { // as the real one does, until a server answers
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ids[id] {
		return nil
	}
	o.ids[id] = true
	var again messages.Message
	switch m.(type) {
	case *messages.Files:
		again = &messages.Files{}
	case *messages.WorkerEvent:
		again = &messages.WorkerEvent{}
	case *messages.LogChunk:
		again = &messages.LogChunk{}
	}
	if err := messages.Decode(data, again); err != nil {
		return err
	}
	if s, ok := again.(interface{ Subject() string }); ok && s.Subject() != subject {
		return fmt.Errorf("published on %s, want %s", subject, s.Subject())
	}
	o.sent = append(o.sent, again)
	return nil
}

func (o *memOutbox) refusing(refuse func(messages.Message) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuse = refuse
}

// sentOf returns the messages of one type.
func sentOf[T messages.Message](o *memOutbox) []T {
	o.mu.Lock()
	defer o.mu.Unlock()
	var list []T
	for _, m := range o.sent {
		if v, ok := m.(T); ok {
			list = append(list, v)
		}
	}
	return list
}

func (o *memOutbox) stages() (list []messages.Stage) {
	for _, e := range sentOf[*messages.WorkerEvent](o) {
		list = append(list, e.Stage)
	}
	return list
}
