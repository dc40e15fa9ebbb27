package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/worker"
)

// Logs writes the container's output with the time of each line, both streams
// in the order in which the engine got them.
func (b *box) Logs(ctx context.Context, w io.Writer) error {
	followed := &demultiplexer{w: w, end: b.mark()}
	err := b.readLog(ctx, followed, container.LogsOptions{Follow: true})
	if err == nil && !followed.over {
		err = b.rest(ctx, w, followed)
	}
	if err != nil {
		return fmt.Errorf("read the container's log: %w", err)
	}
	return nil
}

// closing is how long an engine may take from the end of a log to saying that
// the container has ended: it waits ten seconds for what is still to be written
// (moby, container/monitor.go).
const closing = 15 * time.Second

// rest writes what followed did not get: an engine that closes the log of a
// container which ended also ends the stream of those who follow it, whether or
// not they have all of it (seen with 20.10 on a machine that was busy). Once the
// container has ended nothing is added, and one reading is whole.
func (b *box) rest(ctx context.Context, w io.Writer, followed *demultiplexer) error {
	if err := b.stopped(ctx); err != nil {
		return err
	}
	newest := &demultiplexer{w: io.Discard}
	if err := b.readLog(ctx, newest, container.LogsOptions{Tail: "1"}); err != nil {
		return err
	}
	if bytes.Equal(newest.last, followed.last) {
		return followed.end.flush(w)
	}
	again := &demultiplexer{w: &worker.PassOver{W: w, Left: followed.passed}, end: b.mark()}
	if err := b.readLog(ctx, again, container.LogsOptions{}); err != nil || again.over {
		return err
	}
	return again.end.flush(again.w)
}

// stopped waits until the engine says that the container has ended.
func (b *box) stopped(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, closing)
	defer cancel()
	over, failed := b.r.cli.ContainerWait(short, b.id, container.WaitConditionNotRunning)
	select {
	case <-over:
		return nil
	case err := <-failed:
		if ctx.Err() == nil && short.Err() != nil {
			return errors.New("the engine ended it before the container")
		}
		return err
	}
}

func (b *box) readLog(ctx context.Context, d *demultiplexer, opts container.LogsOptions) error {
	opts.ShowStdout, opts.ShowStderr, opts.Timestamps = true, true, true
	logs, err := b.r.cli.ContainerLogs(ctx, b.id, opts)
	if err != nil {
		return err
	}
	defer logs.Close()
	return d.read(logs)
}

// mark is what ends the log of a container that was started in advance; nil for
// another.
func (b *box) mark() *marks {
	if b.taken == nil {
		return nil
	}
	return &marks{mark: []byte(b.taken.Mark)}
}

// stampSize is the length of the engine's time stamps, the space behind them
// included; maxFrame bounds a frame, far above what the engine sends.
const (
	stampSize = len("2006-01-02T15:04:05.000000000Z ")
	maxFrame  = 1 << 20
)

// A demultiplexer takes the frames of a log apart: a byte that names the
// stream, three that are zero, four with the size, then that many bytes. The
// engine sends a long line in pieces, each with a time stamp: all but a line's
// first are left out.
type demultiplexer struct {
	w   io.Writer
	end *marks // nil if nothing marks the log's end

	passed int64  // bytes written
	last   []byte // the last frame, as it came
	over   bool   // both streams had their mark: this is all
}

// readers are used again: most logs are short, and are read twice.
var readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}

// read reads to the stream's end, or to that of the log.
func (d *demultiplexer) read(r io.Reader) error {
	in := readers.Get().(*bufio.Reader)
	in.Reset(r)
	defer func() {
		in.Reset(nil)
		readers.Put(in)
	}()
	var head [8]byte
	var within [256]bool // whether a stream is within a line
	for !d.over {
		switch _, err := io.ReadFull(in, head[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		size := int(binary.BigEndian.Uint32(head[4:]))
		if size > maxFrame {
			return fmt.Errorf("a frame of %d bytes: this is not a log", size)
		}
		d.last = append(d.last[:0], make([]byte, size)...)
		if _, err := io.ReadFull(in, d.last); err != nil {
			return err
		}
		text, stream := d.last, head[0]
		if within[stream] && isStamp(text) {
			text = text[stampSize:]
		}
		if len(text) > 0 {
			within[stream] = text[len(text)-1] != '\n'
		}
		text, d.over = d.end.cut(stream, text)
		if _, err := d.w.Write(text); err != nil {
			return err
		}
		d.passed += int64(len(text))
	}
	return nil
}

// marks finds the mark that is written behind all that a container that was
// started in advance wrote, on each of its two streams, and takes it out. The
// engine may cut it in two, as it cuts any long line.
type marks struct {
	mark []byte
	seen [256]bool
	held [256][]byte // the end of a piece, which may be the beginning of a mark
}

// cut returns what is to be passed on of a piece, and whether the log is over.
func (m *marks) cut(stream byte, text []byte) (pass []byte, over bool) {
	if m == nil {
		return text, false
	}
	text = append(m.held[stream], text...) //nolint:gocritic // held is not used again
	m.held[stream] = nil
	if head, found := bytes.CutSuffix(text, m.mark); found {
		m.seen[stream] = true
		if isStamp(head) && len(head) == stampSize {
			head = nil // a line of its own
		}
		return head, m.seen[1] && m.seen[2]
	}
	for n := min(len(m.mark)-1, len(text)); n > 0; n-- {
		if bytes.HasSuffix(text, m.mark[:n]) {
			m.held[stream] = bytes.Clone(text[len(text)-n:])
			return text[:len(text)-n], false
		}
	}
	return text, false
}

// flush writes what was held back for nothing: at the log's end only, as what
// comes next may be the mark's other part.
func (m *marks) flush(w io.Writer) error {
	if m == nil {
		return nil
	}
	for _, held := range m.held {
		if len(held) > 0 {
			if _, err := w.Write(held); err != nil {
				return err
			}
		}
	}
	return nil
}

// isStamp reports whether a piece begins as a time stamp does.
func isStamp(b []byte) bool {
	return len(b) >= stampSize && b[4] == '-' && b[10] == 'T' && b[19] == '.' && b[stampSize-2] == 'Z' && b[stampSize-1] == ' '
}
