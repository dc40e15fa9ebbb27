package worker

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"sluice/internal/fault"
	"sluice/messages"
)

// A logPump takes an attempt's log: it writes it to a file, head and tail when
// it is too long, and publishes it in chunks. Nothing that goes wrong with
// publishing holds up the log; the file is the truth.
type logPump struct {
	file *os.File
	path string   // of the note: how many bytes were published, and where the chunk after them ends
	sent *os.File // the note; nil as long as it would say nothing
	head int64    // room left for the log's beginning

	mu      sync.Mutex
	tail    ring
	total   int64 // bytes of the log so far
	skip    int64 // bytes of it that an earlier process published
	until   int64 // where the chunk ends that it may have published; 0 if there is none
	pending []byte
	from    int64 // offset of pending
	err     error // of writing the file
	wake    chan struct{}
}

// maxPending bounds what waits to be published; more is left out of the live
// view.
const maxPending = 16 * messages.MaxLogChunk

// openLogPump opens the log's file anew, and the note of what was published,
// which outlives the process.
func openLogPump(path, note string, limit int64, mode fs.FileMode) (*logPump, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return nil, fmt.Errorf("open the attempt's log: %w", err)
	}
	if err := f.Chmod(mode); err != nil { // whatever the umask is
		return nil, errors.Join(fmt.Errorf("open the attempt's log: %w", err), f.Close())
	}
	p := &logPump{file: f, path: note, head: limit - limit/2, tail: ring{max: int(limit / 2)}, wake: make(chan struct{}, 1)}
	p.sent, err = os.OpenFile(note, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p, nil
	case err != nil:
		return nil, errors.Join(fmt.Errorf("open the attempt's log: %w", err), f.Close())
	}
	before, _ := io.ReadAll(io.LimitReader(p.sent, 64))
	p.skip, p.until = readNote(string(before))
	p.from = p.skip
	return p, nil
}

// readNote reads how many bytes were published, and where the chunk ends that
// may have been published after them.
func readNote(text string) (sent, until int64) {
	done, next, _ := strings.Cut(text, " ")
	if n, err := strconv.ParseInt(done, 10, 64); err == nil && n > 0 {
		sent = n
	}
	if n, err := strconv.ParseInt(next, 10, 64); err == nil && n > sent {
		until = n
	}
	return sent, until
}

// Write takes a piece of the log.
func (p *logPump) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rest := b
	if p.head > 0 {
		n, err := p.file.Write(rest[:min(int64(len(rest)), p.head)])
		p.head -= int64(n)
		if err != nil {
			p.err = fmt.Errorf("write the attempt's log: %w", err)
			return n, p.err
		}
		rest = rest[n:]
	}
	p.tail.write(rest)
	p.offer(b)
	p.total += int64(len(b))
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return len(b), nil
}

// offer puts a piece before the publisher, but for what was published before
// and for what nobody takes: that is a gap.
func (p *logPump) offer(b []byte) {
	at := p.total
	if old := min(p.skip-at, int64(len(b))); old > 0 {
		b, at = b[old:], at+old
	}
	if len(b) == 0 {
		return
	}
	if len(p.pending)+len(b) > maxPending {
		p.pending = p.pending[:0]
		b, at = b[:0], at+int64(len(b))
	}
	if len(p.pending) == 0 {
		p.from = at
	}
	p.pending = append(p.pending, b...)
}

func (p *logPump) size() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

func (p *logPump) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *logPump) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.pending)
}

// publish sends chunks until done says that there is no more: the rest, marked
// as the last, if the log is whole.
func (p *logPump) publish(ctx context.Context, out Outbox, a *messages.Action, done <-chan bool) {
	timer := time.NewTimer(messages.LogChunkWait)
	defer timer.Stop()
	for {
		select {
		case whole := <-done:
			if whole {
				p.flush(ctx, out, a, true)
			}
			return
		case <-p.wake:
		}
		// The first byte starts the clock; a full chunk goes at once.
		timer.Reset(messages.LogChunkWait)
		for full := false; !full; {
			select {
			case whole := <-done:
				p.flush(ctx, out, a, whole)
				return
			case <-timer.C:
				full = true
			case <-p.wake:
				full = p.waiting() >= messages.MaxLogChunk
			}
		}
		p.flush(ctx, out, a, false)
	}
}

// chunkWait bounds the publishing of one chunk.
const chunkWait = 3 * time.Second

// flush publishes what is pending. A chunk that nobody takes is tried again
// later; at the log's end it is given up: the attempt must go on.
func (p *logPump) flush(ctx context.Context, out Outbox, a *messages.Action, last bool) {
	for {
		text, offset, more := p.cut(last)
		if len(text) == 0 && !last {
			return
		}
		chunk := &messages.LogChunk{Job: a.Job, Attempt: a.Attempt, Offset: offset, Text: string(text), Last: last && !more, At: time.Now().UTC()}
		id := fmt.Sprintf("log/%s/%d/%d", a.Job, a.Attempt, offset)
		if chunk.Last {
			id += "/last" // it may be empty, and begin where a piece began that was lost
		}
		end := offset + int64(len(text))
		p.note(offset, end)
		call, cancel := context.WithTimeout(ctx, chunkWait)
		err := out.Publish(call, messages.LogSubject(a.Backend, a.Job, a.Attempt), chunk, id)
		cancel()
		if err == nil {
			fault.At("worker.after-chunk")
			p.note(end, end)
		}
		if err != nil && !last {
			p.putBack(text, offset)
			return
		}
		if !more || err != nil || ctx.Err() != nil {
			return
		}
	}
}

// note keeps how much was published, and where the chunk ends that is published
// now. A process that takes over publishes that very chunk again, which the
// stream knows by its offset: a longer one there would be dropped with all that
// the first did not have. It is written over itself, in place: a process that
// is killed leaves the old numbers or the new ones.
// What goes wrong with it has some lines published twice.
func (p *logPump) note(sent, until int64) {
	if p.sent == nil && until > 0 {
		p.sent, _ = os.OpenFile(p.path, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if p.sent != nil {
		_, _ = p.sent.WriteAt(fmt.Appendf(nil, "%020d %020d", sent, until), 0)
	}
}

// putBack has a chunk that was not taken published again, as it was, unless
// there is no room for it any more.
func (p *logPump) putBack(text []byte, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.pending) > 0 && p.from != offset+int64(len(text)) || len(text)+len(p.pending) > maxPending {
		return
	}
	p.pending = append(text, p.pending...)
	p.from, p.until = offset, offset+int64(len(text))
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// cut takes the next chunk, not through the middle of a character.
func (p *logPump) cut(last bool) (text []byte, offset int64, more bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(p.pending), messages.MaxLogChunk)
	again := p.until - p.from
	switch {
	case again <= 0: // it was published, or fell into a gap
		p.until = 0
		if n < len(p.pending) || !last {
			n -= half(p.pending[:n])
		}
	case again > int64(len(p.pending)) && !last:
		return nil, 0, false // the log is being read again, and is not there yet
	default:
		n = int(min(again, int64(n)))
	}
	text, offset = append([]byte(nil), p.pending[:n]...), p.from
	if len(p.pending) == 0 {
		offset = max(p.total, p.skip)
	}
	p.pending = append(p.pending[:0], p.pending[n:]...)
	p.from += int64(n)
	if last {
		return text, offset, len(p.pending) > 0
	}
	return text, offset, len(p.pending) >= messages.MaxLogChunk || again > 0 && len(p.pending) > 0
}

// half returns how many bytes at the end of b are the beginning of a
// character.
func half(b []byte) int {
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if c := b[len(b)-back]; utf8.RuneStart(c) {
			if !utf8.FullRune(b[len(b)-back:]) {
				return back
			}
			return 0
		}
	}
	return 0
}

// finish completes the file and describes it.
func (p *logPump) finish() (log messages.Log, err error) {
	defer func() {
		if p.sent != nil {
			err = errors.Join(err, p.sent.Close())
		}
		err = errors.Join(err, p.file.Close())
	}()
	if p.tail.written > int64(p.tail.len()) {
		log.Cut = p.tail.written - int64(p.tail.len())
		if _, err := fmt.Fprintf(p.file, "\n[… %d bytes of the log were left out here …]\n", log.Cut); err != nil {
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
	buf := make([]byte, min(p.total, 32<<10)+1)
	if log.Bytes, err = io.CopyBuffer(sum, struct{ io.Reader }{p.file}, buf); err != nil {
		return log, fmt.Errorf("read the attempt's log: %w", err)
	}
	log.Digest = messages.FormatDigest(sum.Sum(nil))
	return log, nil
}

// A ring keeps the last bytes that were written to it.
type ring struct {
	max     int
	written int64
	buf     []byte
	start   int
}

func (r *ring) write(b []byte) {
	r.written += int64(len(b))
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
