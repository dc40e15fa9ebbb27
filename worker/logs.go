package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
	"unicode/utf8"

	"sluice/messages"
)

// A logPump takes an attempt's log: it writes it to a file, head and tail when
// it is too long, and publishes it in chunks. Nothing that goes wrong with
// publishing holds up the log; the file is the truth.
type logPump struct {
	file  *os.File
	limit int64 // bytes of the head, and of the tail
	head  int64
	tail  ring

	mu      sync.Mutex
	total   int64
	pending []byte
	from    int64 // offset of pending
	wake    chan struct{}
	chunks  chan *messages.LogChunk
}

func newLogPump(path string, limit int64) (*logPump, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the attempt's log: %w", err)
	}
	return &logPump{file: f, limit: limit / 2, tail: ring{max: int(limit / 2)}, wake: make(chan struct{}, 1), chunks: make(chan *messages.LogChunk, 64)}, nil
}

// Write takes a piece of the log.
func (p *logPump) Write(b []byte) (int, error) {
	rest := b
	if room := p.limit - p.head; room > 0 {
		n, err := p.file.Write(rest[:min(int64(len(rest)), room)])
		p.head += int64(n)
		if err != nil {
			return n, fmt.Errorf("write the attempt's log: %w", err)
		}
		rest = rest[n:]
	}
	p.tail.write(rest)
	p.mu.Lock()
	p.total += int64(len(b))
	if len(p.pending)+len(b) > 16*messages.MaxLogChunk {
		p.pending, p.from = p.pending[:0], p.total // nobody takes them: leave a gap
	} else {
		p.pending = append(p.pending, b...)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return len(b), nil
}

// publish sends chunks until done is closed, then the rest, marked as the last.
func (p *logPump) publish(ctx context.Context, out Outbox, a *messages.Action, skip int64, done <-chan struct{}) {
	timer := time.NewTimer(messages.LogChunkWait)
	defer timer.Stop()
	subject := messages.LogSubject(a.Backend, a.Job, a.Attempt)
	send := func(last bool) {
		for {
			text, offset, more := p.cut(last)
			if offset+int64(len(text)) <= skip && !last {
				if !more {
					return
				}
				continue // was published before this worker took the attempt over
			}
			if len(text) > 0 || last {
				call, cancel := context.WithTimeout(ctx, 5*time.Second)
				chunk := &messages.LogChunk{Job: a.Job, Attempt: a.Attempt, Offset: offset, Text: string(text), Last: last && !more, At: time.Now().UTC()}
				_ = out.Publish(call, subject, chunk, fmt.Sprintf("log/%s/%d/%d", a.Job, a.Attempt, offset)) // a gap in the live view, no more
				cancel()
			}
			if !more {
				return
			}
		}
	}
	for {
		select {
		case <-done:
			send(true)
			return
		case <-p.wake:
		}
		// The first byte starts the clock; a full chunk goes at once.
		timer.Reset(messages.LogChunkWait)
	full:
		for {
			select {
			case <-done:
				break full
			case <-timer.C:
				break full
			case <-p.wake:
				if p.waiting() >= messages.MaxLogChunk {
					break full
				}
			}
		}
		send(false)
	}
}

func (p *logPump) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending)
}

// cut takes the next chunk, not through the middle of a character.
func (p *logPump) cut(last bool) (text []byte, offset int64, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.pending), messages.MaxLogChunk)
	if n < len(p.pending) || !last {
		for back := 0; back < utf8.UTFMax && n > back && !endsWhole(p.pending[:n-back]); back++ {
			if utf8.RuneStart(p.pending[n-back-1]) {
				n -= back + 1
				break
			}
		}
	}
	text, offset = append([]byte(nil), p.pending[:n]...), p.from
	p.pending = append(p.pending[:0], p.pending[n:]...)
	p.from += int64(n)
	return text, offset, n > 0 && len(p.pending) >= messages.MaxLogChunk || last && n > 0 && len(p.pending) > 0
}

// endsWhole reports whether text does not end within a character.
func endsWhole(b []byte) bool {
	r, size := utf8.DecodeLastRune(b)
	return r != utf8.RuneError || size != 1 || len(b) == 0
}

// finish completes the file and describes it.
func (p *logPump) finish() (log messages.Log, err error) {
	defer func() { err = errors.Join(err, p.file.Close()) }()
	if cut := p.total - p.head - int64(p.tail.len()); cut > 0 {
		log.Cut = cut
		if _, err := fmt.Fprintf(p.file, "\n[… %d bytes of the log were left out here …]\n", cut); err != nil {
			return log, fmt.Errorf("write the attempt's log: %w", err)
		}
	}
	for _, part := range p.tail.parts() {
		if _, err := p.file.Write(part); err != nil {
			return log, fmt.Errorf("write the attempt's log: %w", err)
		}
	}
	if _, err := p.file.Seek(0, io.SeekStart); err != nil {
		return log, fmt.Errorf("read the attempt's log: %w", err)
	}
	sum := sha256.New()
	if log.Bytes, err = io.Copy(sum, p.file); err != nil {
		return log, fmt.Errorf("read the attempt's log: %w", err)
	}
	log.Digest = messages.FormatDigest(sum.Sum(nil))
	return log, nil
}

// A ring keeps the last bytes that were written to it.
type ring struct {
	max   int
	buf   []byte
	start int
}

func (r *ring) write(b []byte) {
	if len(b) >= r.max {
		r.buf, r.start = append(r.buf[:0], b[len(b)-r.max:]...), 0
		return
	}
	if grow := min(r.max-len(r.buf), len(b)); grow > 0 {
		r.buf = append(r.buf, b[:grow]...)
		b = b[grow:]
	}
	for len(b) > 0 {
		n := copy(r.buf[r.start:], b)
		r.start = (r.start + n) % len(r.buf)
		b = b[n:]
	}
}

func (r *ring) len() int { return len(r.buf) }

func (r *ring) parts() [][]byte { return [][]byte{r.buf[r.start:], r.buf[:r.start]} }
