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

// logIdle is how long nothing may come of a log after its container's end before
// it is taken as it is: an engine may keep the stream open. It is longer than an
// engine takes to close a log and a runtime to read it again from its beginning.
const logIdle = time.Minute

// cutNote ends a log that was taken as it was.
const cutNote = "sluice: the engine did not end this log; lines may be missing here\n"

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
	pump, err := openLogPump(filepath.Join(a.space.Dir, "log"), filepath.Join(a.space.Dir, "log.sent"), a.w.cfg.LogBytes, a.w.Staging.FileMode())
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
		err := box.Logs(ctx, &PassOver{W: f.pump, Left: f.pump.size()})
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
	err := f.awaitWhole(whole)
	f.done <- whole
	f.all.Wait()
	log, finishErr := f.pump.finish()
	if !whole {
		err = nil // there is another error, which says why
	}
	return log, errors.Join(err, finishErr)
}

// awaitWhole waits for the end of the reading. A log that is to be whole and had
// to be broken off says so.
func (f *following) awaitWhole(whole bool) error {
	cut, err := f.awaitRead()
	f.cancel()
	if cut && whole {
		_, _ = f.pump.Write([]byte(cutNote)) // its error is the pump's
	}
	return err
}

// awaitRead returns how the reading ended, and whether it had to be broken off.
func (f *following) awaitRead() (cut bool, err error) {
	idle := time.NewTicker(logIdle)
	defer idle.Stop()
	for size := f.pump.size(); ; {
		select {
		case err := <-f.read:
			return false, err
		case <-idle.C:
			now := f.pump.size()
			if now == size {
				f.cancel()
				return true, <-f.read
			}
			size = now
		}
	}
}

// PassOver drops the first Left bytes that are written to it: for a log that is
// read again from its beginning.
type PassOver struct {
	W    io.Writer
	Left int64
}

func (p *PassOver) Write(b []byte) (int, error) {
	drop := min(p.Left, int64(len(b)))
	p.Left -= drop
	if drop == int64(len(b)) {
		return len(b), nil
	}
	n, err := p.W.Write(b[drop:])
	return n + int(drop), err
}
