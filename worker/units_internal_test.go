package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/messages"
)

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	good := DefaultConfig()
	good.Name, good.Backend, good.State = "w", "tpp", "/var/lib/sluice"
	if err := good.Check(); err != nil {
		t.Errorf("the default configuration is not complete: %v", err)
	}
	err := Config{Pools: map[string]float64{"A B": -1}, Limits: messages.Limits{Memory: 1}, LeaseTTL: 1, Drain: -1}.Check()
	if err == nil {
		t.Fatal("Check of a bad configuration succeeded")
	}
	for _, want := range []string{"worker name", "backend name", "pool name", "slots", "state", "lease_ttl", "drain", "limits", "log_bytes", "root"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Check does not say what is wrong with %q: %v", want, err)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	w := &Worker{cfg: DefaultConfig()}
	d := w.cfg.Limits
	diff := func(name string, want, got messages.Limits) {
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	diff("none", d, w.limits(&messages.Action{}))
	own := messages.Limits{CPUs: 0.5, Memory: 64 << 20, Processes: 5, Disk: 1 << 20, Time: time.Second}
	diff("an action's own", own, w.limits(&messages.Action{Limits: own}))
	got := w.limits(&messages.Action{Limits: messages.Limits{Memory: 1, Disk: 1 << 60, Time: 1 << 60}})
	diff("out of bounds", messages.Limits{CPUs: d.CPUs, Memory: minMemory, Processes: d.Processes, Disk: d.Disk, Time: d.Time}, got)
}

func TestSample(t *testing.T) {
	t.Parallel()
	var many []messages.Path
	for range 2 * messages.MaxGiven {
		many = append(many, "x")
	}
	if got := len(sample(many)); got != messages.MaxGiven {
		t.Errorf("a sample of many has %d, want %d", got, messages.MaxGiven)
	}
	if got := len(sample([]messages.Path{messages.Path(strings.Repeat("x", maxGiven)), "y"})); got != 1 {
		t.Errorf("a sample of long ones has %d, want 1", got)
	}
}

// TestRing: it keeps the end of whatever is written, in whatever pieces.
func TestRing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := ring{max: rapid.IntRange(1, 20).Draw(t, "max")}
		var all []byte
		for _, piece := range rapid.SliceOf(rapid.SliceOfN(rapid.Byte(), 0, 30)).Draw(t, "pieces") {
			r.write(piece)
			all = append(all, piece...)
		}
		want := all[max(len(all)-r.max, 0):]
		if got := bytes.Join(r.parts(), nil); !bytes.Equal(got, want) || r.written != int64(len(all)) {
			t.Fatalf("ring = %q after %d bytes, want %q after %d", got, r.written, want, len(all))
		}
	})
}

// A chunkOutbox keeps chunks.
type chunkOutbox struct {
	mu     sync.Mutex
	chunks []*messages.LogChunk
	hangs  chan struct{} // no answer before it is closed, if not nil
}

func (o *chunkOutbox) hang(hangs chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hangs = hangs
}

func (o *chunkOutbox) Publish(ctx context.Context, _ string, m messages.Message, _ string) error {
	o.mu.Lock()
	hangs := o.hangs
	o.mu.Unlock()
	if hangs != nil {
		select {
		case <-hangs:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	chunk, ok := m.(*messages.LogChunk)
	if !ok {
		return errors.New("not a chunk")
	}
	o.chunks = append(o.chunks, chunk)
	return nil
}

func (o *chunkOutbox) all() []*messages.LogChunk {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.chunks)
}

func testPump(t *testing.T, dir string, limit int64, write func(p *logPump, out *chunkOutbox)) (string, messages.Log, []*messages.LogChunk) {
	t.Helper()
	path := filepath.Join(dir, "log")
	p, err := openLogPump(path, path+".sent", limit, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	out, done := &chunkOutbox{}, make(chan bool, 1)
	var publishing sync.WaitGroup
	publishing.Go(func() {
		p.publish(t.Context(), out, &messages.Action{Backend: "test", Job: messages.NewJobID("r", "a"), Attempt: 1}, done)
	})
	write(p, out)
	done <- true
	publishing.Wait()
	log, err := p.finish()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if log.Bytes != int64(len(data)) || log.Digest != messages.Digest(data) {
		t.Errorf("log = %+v, want the size and the digest of the file", log)
	}
	return string(data), log, out.all()
}

func put(t *testing.T, p *logPump, text string) {
	t.Helper()
	if n, err := p.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("Write = %d, %v, want %d", n, err, len(text))
	}
}

func TestLogIsCut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		head, tail := strings.Repeat("h", 5000), strings.Repeat("t", 5000)
		file, log, _ := testPump(t, dir, 10_000, func(p *logPump, _ *chunkOutbox) {
			put(t, p, head)
			for range 1000 {
				put(t, p, "middle\n")
			}
			put(t, p, tail)
		})
		if want := head + "\n[… 7000 bytes of the log were left out here …]\n" + tail; file != want {
			t.Errorf("file has %d bytes, want head, one line and tail, %d", len(file), len(want))
		}
		if log.Cut != 7000 {
			t.Errorf("cut = %d, want 7000", log.Cut)
		}
	})
}

func TestLogAtItsLimit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("x", 10_001)
		file, log, _ := testPump(t, dir, 10_001, func(p *logPump, _ *chunkOutbox) { put(t, p, text) })
		if file != text || log.Cut != 0 {
			t.Errorf("a log of just the limit has %d bytes, %d cut, want all", len(file), log.Cut)
		}
	})
}

// TestChunks: by size or by time, never through a character, and all of it.
func TestChunks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		line := strings.Repeat("ä€𝄞", 1000) + "\n"
		var want strings.Builder
		_, _, chunks := testPump(t, dir, 1<<20, func(p *logPump, out *chunkOutbox) {
			put(t, p, "first\n")
			<-time.After(messages.LogChunkWait / 2)
			synctest.Wait()
			if n := len(out.all()); n != 0 {
				t.Errorf("%d chunks before the time was over, want none", n)
			}
			<-time.After(messages.LogChunkWait)
			synctest.Wait()
			if n := len(out.all()); n != 1 {
				t.Errorf("%d chunks after the time was over, want one", n)
			}
			for range 50 {
				put(t, p, line)
			}
			synctest.Wait()
			if n := len(out.all()); n < 2 {
				t.Errorf("%d chunks, want full ones to go at once", n)
			}
			put(t, p, "end, \xe2\x82")
			<-time.After(time.Second)
			put(t, p, "\xac, half: \xe2")
		})
		want.WriteString("first\n" + strings.Repeat(line, 50) + "end, €, half: \xe2")
		var got strings.Builder
		for i, c := range chunks {
			if c.Offset != int64(got.Len()) || len(c.Text) > messages.MaxLogChunk || c.Last != (i == len(chunks)-1) {
				t.Errorf("chunk %d at %d with %d bytes, last: %t, want it at %d", i, c.Offset, len(c.Text), c.Last, got.Len())
			}
			if !utf8.ValidString(c.Text) && !c.Last {
				t.Errorf("chunk %d cuts a character", i)
			}
			got.WriteString(c.Text)
		}
		if got.String() != want.String() {
			t.Errorf("the chunks have %d bytes, want %d", got.Len(), want.Len())
		}
	})
}

// TestGap: what nobody takes is left out of the live view, with a gap in the
// offsets, and the file has it all.
func TestGap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		text := strings.Repeat("x", 1<<20)
		file, _, chunks := testPump(t, dir, 16<<20, func(p *logPump, out *chunkOutbox) {
			hangs := make(chan struct{})
			out.hang(hangs)
			put(t, p, "hangs")
			<-time.After(time.Second)
			for range 4 {
				put(t, p, text)
			}
			close(hangs)
			synctest.Wait()
			put(t, p, "again\n")
			<-time.After(time.Second)
		})
		if want := 5 + 4<<20 + 6; len(file) != want {
			t.Errorf("the file has %d bytes, want %d", len(file), want)
		}
		last := chunks[len(chunks)-2]
		if last.Text != "again\n" || last.Offset != 5+4<<20 {
			t.Errorf("last piece = %q at %d, want what came after the gap, at its place", last.Text, last.Offset)
		}
	})
}

// TestServerAway: a chunk that nobody takes for a while is not left out.
func TestServerAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		_, _, chunks := testPump(t, dir, 16<<20, func(p *logPump, out *chunkOutbox) {
			put(t, p, "before\n")
			<-time.After(time.Second)
			back := make(chan struct{})
			out.hang(back)
			for i := range 10 {
				put(t, p, fmt.Sprintf("line %d\n", i))
				<-time.After(time.Second)
			}
			close(back)
			<-time.After(time.Second)
			put(t, p, "after\n")
		})
		var got strings.Builder
		for _, c := range chunks {
			if c.Offset != int64(got.Len()) {
				t.Errorf("%q is at %d, want it at %d", c.Text, c.Offset, got.Len())
			}
			got.WriteString(c.Text)
		}
		if want := "before\nline 0\n"; !strings.HasPrefix(got.String(), want) || !strings.HasSuffix(got.String(), "line 9\nafter\n") {
			t.Errorf("published %q, want it whole", got.String())
		}
	})
}

func TestPassOver(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	p := &PassOver{W: &out, Left: 7}
	for _, piece := range []string{"abc", "", "defgh", "ijk"} {
		if n, err := p.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Errorf("Write(%q) = %d, %v", piece, n, err)
		}
	}
	if out.String() != "hijk" {
		t.Errorf("what came through = %q, want hijk", out.String())
	}
}

// flakyBox is a container whose log breaks off.
type flakyBox struct {
	Container
	whole  string
	breaks []int // after so many bytes
}

func (b *flakyBox) Logs(_ context.Context, w io.Writer) error {
	n := len(b.whole)
	var err error
	if len(b.breaks) > 0 {
		n, b.breaks, err = b.breaks[0], b.breaks[1:], errors.New("broken pipe")
	}
	if _, werr := w.Write([]byte(b.whole[:n])); werr != nil {
		return werr
	}
	return err
}

// TestBrokenLog: a log that breaks off is read again, and no byte comes twice.
func TestBrokenLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var read error
		file, _, _ := testPump(t, dir, 1<<20, func(p *logPump, _ *chunkOutbox) {
			f := &following{pump: p, over: make(chan struct{})}
			read = f.readAll(t.Context(), &flakyBox{whole: "0123456789\n", breaks: []int{3, 0, 3, 7}})
		})
		if file != "0123456789\n" || read != nil {
			t.Errorf("log = %q, %v, want it whole", file, read)
		}
	})
}

// openBox is a container whose log never ends.
type openBox struct {
	Container
	later time.Duration // after which the rest of its log comes
}

func (b openBox) Logs(ctx context.Context, w io.Writer) error {
	for _, text := range []string{"first\n", "last\n"} {
		if _, err := w.Write([]byte(text)); err != nil {
			return err
		}
		if !pause(ctx, b.later) {
			break
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// TestOpenLog: a log that nobody ends is taken as it is after a while, not
// before a slow engine has had its time, and says so.
func TestOpenLog(t *testing.T) {
	t.Parallel()
	for later, want := range map[time.Duration]string{40 * time.Second: "first\nlast\n" + cutNote, time.Hour: "first\n" + cutNote} {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			file, _, _ := testPump(t, dir, 1<<20, func(p *logPump, _ *chunkOutbox) {
				ctx, cancel := context.WithCancel(t.Context())
				f := &following{pump: p, cancel: cancel, read: make(chan error, 1), over: make(chan struct{})}
				go func() { f.read <- f.readAll(ctx, openBox{later: later}) }()
				synctest.Wait()
				close(f.over)
				if err := f.awaitWhole(true); err != nil {
					t.Error(err)
				}
			})
			if file != want {
				t.Errorf("after %v the log is %q, want %q", later, file, want)
			}
		})
	}
}

// TestChunkAgain: a worker that was killed while it published a chunk publishes
// that very one again, though it has read more by then.
func TestChunkAgain(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, note string
		writes     []string
		want       []string
	}{
		{"it is told by its offset", "4 8", []string{"one\ntwo\nthree\n"}, []string{"4 two\n", "8 three\n"}},
		{"the log comes in pieces", "4 8", []string{"one\nt", "wo\nthree\n"}, []string{"4 two\n", "8 three\n"}},
		{"it was the last", "4 8", []string{"one\ntwo\n"}, []string{"4 two\n"}},
		{"it was published", "4 4", []string{"one\ntwo\nthree\n"}, []string{"4 two\nthree\n"}},
		{"a note of an older build", "4", []string{"one\ntwo\nthree\n"}, []string{"4 two\nthree\n"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "log.sent"), []byte(tc.note), 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				_, _, chunks := testPump(t, dir, 10_000, func(p *logPump, _ *chunkOutbox) {
					for _, text := range tc.writes {
						put(t, p, text)
						<-time.After(time.Second)
					}
				})
				var got []string
				for _, c := range chunks {
					if c.Text != "" {
						got = append(got, fmt.Sprint(c.Offset, " ", c.Text))
					}
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("published %q, want %q", got, tc.want)
				}
			})
		})
	}
}
