package jetstream_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// A fleet is a provisioned server with a connection of ours and a raw one, as
// anybody with a NATS client has it.
type fleet struct {
	*jetstream.Conn
	server *jetstream.Server
	nc     *nats.Conn
	js     njs.JetStream
	lines  *logLines
}

func newFleet(t testing.TB) *fleet {
	t.Helper()
	f := &fleet{server: jetstreamtest.Server(t), lines: newLogLines()}
	f.Conn = connect(t, jetstream.Options{URL: f.server.URL(), Name: t.Name(), Log: zerolog.New(f.lines)})
	f.nc, f.js = raw(t, f.server.URL())
	if err := f.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatalf("provision: %v", err)
	}
	return f
}

// restart stops the server, does something, and starts it again; it returns
// when our connection is back.
func (f *fleet) restart(t testing.TB) {
	t.Helper()
	again, stop := f.Reconnected()
	defer stop()
	f.server = jetstreamtest.Restart(t, f.server)
	<-again
}

func connect(t testing.TB, o jetstream.Options) *jetstream.Conn {
	t.Helper()
	c, err := jetstream.Connect(t.Context(), o)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

func raw(t testing.TB, url string, opts ...nats.Option) (*nats.Conn, njs.JetStream) {
	t.Helper()
	opts = append([]nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(10 * time.Millisecond)}, opts...)
	nc, err := nats.Connect(url, opts...)
	if err != nil {
		t.Fatalf("connect a raw client: %v", err)
	}
	t.Cleanup(nc.Close)
	js, err := njs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// stream returns what a stream is and holds, through the raw client.
func (f *fleet) stream(t testing.TB, name string) *njs.StreamInfo {
	t.Helper()
	s, err := f.js.Stream(t.Context(), name)
	if err != nil {
		t.Fatalf("stream %s: %v", name, err)
	}
	return s.CachedInfo()
}

func (f *fleet) consumer(t testing.TB, stream, name string) *njs.ConsumerInfo {
	t.Helper()
	c, err := f.js.Consumer(t.Context(), stream, name)
	if err != nil {
		t.Fatalf("consumer %s of %s: %v", name, stream, err)
	}
	return c.CachedInfo()
}

func (f *fleet) letters(t testing.TB) []jetstream.DeadLetter {
	t.Helper()
	var list []jetstream.DeadLetter
	if err := f.DeadLetters(t.Context(), func(l jetstream.DeadLetter) { list = append(list, l) }); err != nil {
		t.Fatalf("DeadLetters: %v", err)
	}
	return list
}

// logLines keeps what was logged and tells who waits for a line.
type logLines struct {
	mu    sync.Mutex
	buf   bytes.Buffer
	wrote chan struct{}
}

func newLogLines() *logLines { return &logLines{wrote: make(chan struct{}, 1)} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.wrote <- struct{}{}:
	default:
	}
	return l.buf.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logLines) await(t testing.TB, text string) {
	t.Helper()
	for !strings.Contains(l.String(), text) {
		select {
		case <-l.wrote:
		case <-t.Context().Done():
			t.Fatalf("no log line says %q; got:\n%s", text, l)
		}
	}
}

func job(n int) messages.JobID { return messages.NewJobID("r", fmt.Sprint(n)) }

func request(n int) *messages.Request {
	return &messages.Request{
		ID: messages.RequestID(fmt.Sprintf("r%d", n)), Backend: "test", Workspace: "ws",
		Source: messages.Source{Repo: "/repo", Commit: messages.WorkingFolder}, Actions: []string{"a"},
	}
}

func files(n int) *messages.Files {
	return &messages.Files{Job: job(n), Attempt: 1, Backend: "test", Workspace: "ws", Worker: "w", Listing: messages.Listing{}}
}

func action(n int) *messages.Action {
	return &messages.Action{
		Job: job(n), Attempt: 1, Request: "r", Backend: "test", Pool: "default", Workspace: "ws", Name: "a", Image: "r:v1", Weight: 1,
		Source: messages.Source{Repo: "/repo", Commit: messages.WorkingFolder},
	}
}

func lease(owner string) *messages.Lease {
	return &messages.Lease{State: messages.LeaseHeld, Owner: owner, Nonce: "n-" + owner, Weight: 1, Pool: "default"}
}

func publish(t testing.TB, c *jetstream.Conn, m interface {
	messages.Message
	Subject() string
}) {
	t.Helper()
	if err := c.Publish(t.Context(), m.Subject(), m, ""); err != nil {
		t.Fatalf("publish on %s: %v", m.Subject(), err)
	}
}

func (f *fleet) filesQueue(opts ...jetstream.QueueOption) *jetstream.Queue {
	opts = append([]jetstream.QueueOption{jetstream.Retrying(time.Millisecond, time.Millisecond)}, opts...)
	return f.Queue(jetstream.Files, jetstream.PersisterConsumer("test"), "persister", opts...)
}

// next takes one message, which must be there.
func next(t testing.TB, q *jetstream.Queue) *messages.Delivery {
	t.Helper()
	d, err := q.Next(t.Context())
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return d
}

// awaitExpiry waits until a key with a time to live is gone: a second or two of
// the server's clock at least.
func (f *fleet) awaitExpiry(t testing.TB, ttl time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	leases, key := f.LeasesRegister(), messages.LeaseKey("test", messages.NewJobID("clock", rand.Text()), 1)
	if _, err := leases.Create(ctx, key, lease("clock"), ttl); err != nil {
		t.Fatal(err)
	}
	if err := leases.Watch(ctx, key, func(e messages.Entry[messages.Lease]) {
		if e.Expired {
			stop()
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// rawPublish writes a message with headers that no client library would write,
// and returns when the server has stored it.
func rawPublish(t testing.TB, f *fleet, subject, header, data string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(f.server.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	in := bufio.NewReader(conn)
	if _, err := in.ReadString('\n'); err != nil { // INFO
		t.Fatal(err)
	}
	// The stream's answer is waited for: what is stored is there then.
	fmt.Fprintf(conn, "CONNECT {\"headers\":true,\"verbose\":false}\r\nSUB _INBOX.raw 1\r\nHPUB %s _INBOX.raw %d %d\r\n%s%s\r\n", subject, len(header), len(header)+len(data), header, data)
	for line := ""; !strings.HasPrefix(line, "MSG _INBOX.raw"); {
		if line, err = in.ReadString('\n'); err != nil || strings.HasPrefix(line, "-ERR") {
			t.Fatalf("server says %q, %v", line, err)
		}
	}
}
