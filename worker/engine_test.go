package worker_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"sluice/worker"
)

// An engine runs containers that end when a test says so. It outlives workers.
type engine struct {
	mu      sync.Mutex
	boxes   map[worker.Attempt]*box
	specs   []worker.Spec
	down    error
	mute    error // a start works, and its answer is this
	image   func(string) (string, error)
	drain   time.Duration // a drain takes this long
	started chan *box     // told of each start, if there is room
}

func (e *engine) Check(context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

func (e *engine) set(down error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.down = down
}

func (e *engine) Image(_ context.Context, name string) (string, error) {
	if e.image != nil {
		return e.image(name)
	}
	return "sha256:image", nil
}

func (e *engine) Start(_ context.Context, spec worker.Spec) (worker.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return nil, e.down
	}
	if e.boxes[spec.Attempt] != nil {
		return nil, errors.New("there is one already")
	}
	b := &box{engine: e, spec: spec, began: time.Now(), ended: make(chan struct{}), more: make(chan struct{})}
	e.boxes[spec.Attempt] = b
	e.specs = append(e.specs, spec)
	e.started <- b
	if e.mute != nil {
		return nil, e.mute
	}
	return b, nil
}

func (e *engine) Drain() { <-time.After(e.drain) } // by the clock of the test

func (e *engine) Find(context.Context) ([]worker.Container, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var list []worker.Container
	for _, b := range e.boxes {
		list = append(list, b)
	}
	return list, e.down
}

func (e *engine) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.boxes)
}

type box struct {
	engine *engine
	spec   worker.Spec
	began  time.Time

	mu      sync.Mutex
	log     []byte
	more    chan struct{} // closed when there is more log
	ended   chan struct{}
	exit    worker.Exit
	stops   []time.Duration
	deaf    bool // does not end by SIGTERM
	unseen  bool // what it uses cannot be had
	inspect func()
}

func (b *box) Attempt() worker.Attempt { return b.spec.Attempt }

func (b *box) end(exit worker.Exit) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.ended:
		return
	default:
	}
	exit.Started, exit.Finished = b.began, time.Now()
	b.exit = exit
	close(b.ended)
}

func (b *box) say(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, text...)
	close(b.more)
	b.more = make(chan struct{})
}

func (b *box) Wait(ctx context.Context) (worker.Exit, error) {
	select {
	case <-b.ended:
		return b.exit, nil
	case <-ctx.Done():
		return worker.Exit{}, context.Cause(ctx)
	}
}

func (b *box) Logs(ctx context.Context, w io.Writer) error {
	for at := 0; ; {
		b.mu.Lock()
		piece, more := slices.Clone(b.log[at:]), b.more
		b.mu.Unlock()
		at += len(piece)
		if len(piece) > 0 {
			if _, err := w.Write(piece); err != nil {
				return err
			}
			continue
		}
		select {
		case <-more:
		case <-b.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (b *box) Stop(ctx context.Context, grace time.Duration) error {
	b.mu.Lock()
	b.stops = append(b.stops, grace)
	deaf := b.deaf
	b.mu.Unlock()
	if deaf {
		select {
		case <-time.After(grace):
		case <-ctx.Done():
			return ctx.Err()
		}
		b.end(worker.Exit{Code: 137})
		return nil
	}
	b.end(worker.Exit{Code: 143})
	return nil
}

func (b *box) stopped() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.stops)
}

func (b *box) Inspect(context.Context) ([]byte, error) {
	b.mu.Lock()
	inspect := b.inspect
	b.mu.Unlock()
	if inspect != nil {
		inspect()
	}
	return []byte(`{"Id":"box"}`), nil
}

// Usage: half a processor, and as many MiB as seconds.
func (b *box) Usage(context.Context) (worker.Usage, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unseen {
		return worker.Usage{}, errDown
	}
	runs := time.Since(b.began)
	return worker.Usage{Container: "box", CPU: runs / 2, Memory: int64(runs.Seconds()) << 20}, nil
}

func (b *box) Remove(context.Context) error {
	b.end(worker.Exit{Code: 137})
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	if b.engine.boxes[b.spec.Attempt] == b {
		delete(b.engine.boxes, b.spec.Attempt)
	}
	return nil
}

// with changes a container behind its worker's back.
func (b *box) with(change func(*box)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change(b)
}

// starts is how many containers were started.
func (e *engine) starts() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.specs)
}

func (e *engine) of(id worker.Attempt) *box {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.boxes[id]
}

func (e *engine) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.boxes)
}
