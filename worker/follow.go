package worker

import (
	"context"
	"errors"
	"io"
	"path/filepath"
	"sync"
	"time"

	"sluice/messages"
)

// logIdle is how long a log may be silent after its container's end before it
// counts as complete: an engine may keep the stream open.
const logIdle = 10 * time.Second

// logRetry is the pause before a broken log is followed again.
const logRetry = time.Second

// A following is the log of a container on its way into a file and into chunks.
type following struct {
	pump   *logPump
	cancel context.CancelFunc // breaks the reading off
	read   chan error         // how the reading ended
	done   chan bool          // told when there is nothing more to publish, and whether that is all
	over   chan struct{}      // closed when the container has ended
	all    sync.WaitGroup
}

// followLogs follows the container's log from its beginning: the file is
// written anew, and what was published before is not published again.
func (a *attempt) followLogs() (*following, error) {
	pump, err := openLogPump(filepath.Join(a.space.Dir, "log"), filepath.Join(a.space.Dir, "log.sent"), a.w.cfg.LogBytes)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(a.life)
	f := &following{pump: pump, cancel: cancel, read: make(chan error, 1), done: make(chan bool, 1), over: make(chan struct{})}
	f.all.Go(func() { pump.publish(a.life, a.w.Outbox, &a.entry.Action, f.done) })
	f.all.Go(func() { f.read <- f.readAll(ctx, a.box) })
	return f, nil
}

// readAll reads the log to its end. A connection that breaks is made again,
// and what was read before is passed over.
func (f *following) readAll(ctx context.Context, box Container) error {
	for {
		over := false
		select {
		case <-f.over:
			over = true // what comes now is all there is
		default:
		}
		err := box.Logs(ctx, &passOver{w: f.pump, left: f.pump.size()})
		switch {
		case err == nil || ctx.Err() != nil:
			return nil
		case f.pump.failed() != nil:
			return f.pump.failed()
		case over || !pause(ctx, logRetry):
			return err
		}
	}
}

// finish waits for the log's end, or breaks it off, and describes it.
func (f *following) finish(whole bool) (messages.Log, error) {
	close(f.over)
	if !whole {
		f.cancel()
	}
	err := f.awaitRead()
	f.cancel()
	f.done <- whole
	f.all.Wait()
	log, finishErr := f.pump.finish()
	if !whole {
		err = nil // there is another error, which says why
	}
	return log, errors.Join(err, finishErr)
}

func (f *following) awaitRead() error {
	idle := time.NewTicker(logIdle)
	defer idle.Stop()
	for size := f.pump.size(); ; {
		select {
		case err := <-f.read:
			return err
		case <-idle.C:
			now := f.pump.size()
			if now == size {
				f.cancel()
				return <-f.read
			}
			size = now
		}
	}
}

// passOver drops the first bytes that are written to it.
type passOver struct {
	w    io.Writer
	left int64
}

func (p *passOver) Write(b []byte) (int, error) {
	drop := min(p.left, int64(len(b)))
	p.left -= drop
	if drop == int64(len(b)) {
		return len(b), nil
	}
	n, err := p.w.Write(b[drop:])
	return n + int(drop), err
}
