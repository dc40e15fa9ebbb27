package git

import (
	"context"
	"sync"
)

// flights lets callers who want the same thing share the work. It goes on as
// long as one of them still waits; the last to leave stops it and sees it end.
type flights struct {
	mu      sync.Mutex
	started map[string]*flight
}

type flight struct {
	waiters int
	stop    context.CancelFunc
	done    chan struct{}
	err     error // once done is closed
}

func (f *flights) do(ctx context.Context, key string, work func(context.Context) error) error {
	f.mu.Lock()
	fl := f.started[key]
	if fl == nil {
		shared, stop := context.WithCancel(context.WithoutCancel(ctx))
		fl = &flight{stop: stop, done: make(chan struct{})}
		if f.started == nil {
			f.started = map[string]*flight{}
		}
		f.started[key] = fl
		go func() {
			defer close(fl.done)
			defer stop()
			fl.err = work(shared)
			f.mu.Lock()
			f.forget(key, fl)
			f.mu.Unlock()
		}()
	}
	fl.waiters++
	f.mu.Unlock()

	select {
	case <-fl.done:
		return fl.err
	case <-ctx.Done():
	}
	f.mu.Lock()
	fl.waiters--
	last := fl.waiters == 0
	if last {
		f.forget(key, fl) // whoever comes now begins anew
		fl.stop()
	}
	f.mu.Unlock()
	if last {
		<-fl.done
	}
	return context.Cause(ctx)
}

func (f *flights) forget(key string, fl *flight) {
	if f.started[key] == fl {
		delete(f.started, key)
	}
}
