package jetstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"

	"sluice/messages"
)

// MinServer is the oldest server that has what the registers need: a time to
// live for each message, and markers for those that expired.
const MinServer = "2.11.0"

// minPayload is what a server must take at once, in bytes: the largest message,
// with the headers that make a dead letter of it.
const minPayload = messages.MaxPayload + 48<<10

// callTimeout bounds one request to the server.
const callTimeout = 5 * time.Second

// A Conn is a connection to the fleet's server.
type Conn struct {
	nc        *nats.Conn
	js        jetstream.JetStream
	registers string // what a register's name and key are appended to, for a write
	log       zerolog.Logger

	garbled sync.Map // by subject, the newest message that is no value of its register, and was logged

	mu      sync.Mutex
	streams map[string]jetstream.Stream
	waiting map[chan struct{}]bool
	line    context.Context // ends when the connection of now is lost
	hangUp  context.CancelFunc
}

// Connect connects and checks that the server can do what is needed. While no
// server answers it tries until ctx ends; what is wrong on our side (a URL, a
// file, a certificate, a refused user) is returned at once. Later losses of the
// connection are mended without end; nothing is buffered meanwhile.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	c := &Conn{log: o.Log, waiting: map[chan struct{}]bool{}}
	c.line, c.hangUp = context.WithCancel(context.Background())
	opts, err := o.nats(c)
	if err != nil {
		return nil, err
	}
	address := o.URL
	if address == "" {
		address = nats.DefaultURL
	}
	shown := hidePasswords(address)
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		if c.nc, err = nats.Connect(address, opts...); err == nil {
			break
		}
		if wait == 100*time.Millisecond && ctx.Err() == nil && transient(err) {
			c.log.Warn().Err(err).Str("url", shown).Msg("NATS cannot be reached; waiting for it")
		}
		if !transient(err) {
			return nil, fmt.Errorf("connect to NATS at %s: %w", shown, err)
		}
		if !pause(ctx, wait) {
			if errors.Is(ctx.Err(), context.Canceled) { // nobody waits any more
				err = fmt.Errorf("%w (%w)", err, ctx.Err())
			}
			return nil, fmt.Errorf("connect to NATS at %s: %w", shown, err)
		}
	}
	c.js, c.registers, err = o.api(c.nc)
	if err := errors.Join(err, c.fit()); err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("NATS server at %s: %w", shown, err)
	}
	return c, nil
}

// fit reports why the server is not one that the fleet can work with.
func (c *Conn) fit() error {
	if v := c.nc.ConnectedServerVersion(); olderThan(v, MinServer) {
		return fmt.Errorf("it is version %s; %s or newer is needed", v, MinServer)
	}
	if n := c.nc.MaxPayload(); n < minPayload {
		return fmt.Errorf("it takes messages of %d bytes at most; set its max_payload to 1MB", n)
	}
	return nil
}

// transient reports whether a failed connect may succeed when it is tried
// again with the same options.
func transient(err error) bool {
	var alert tls.AlertError // the server refuses our certificate
	var network *net.OpError // not net.Error: a file's errors are some, too
	var name *net.DNSError
	switch {
	case errors.As(err, &alert):
		return false
	case errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrTimeout), errors.Is(err, io.EOF), errors.Is(err, nats.ErrConnectionClosed):
		return true
	}
	return errors.As(err, &network) || errors.As(err, &name)
}

// Close ends the connection.
func (c *Conn) Close() { c.nc.Close() }

// Connected reports whether the server can be reached now.
func (c *Conn) Connected() bool { return c.nc.IsConnected() }

// Reconnected returns a channel that gets a value after each reconnect, until
// stop is called. Values that nobody takes are dropped but one.
func (c *Conn) Reconnected() (again <-chan struct{}, stop func()) {
	ch := make(chan struct{}, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[ch] = true
	return ch, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, ch)
	}
}

func (c *Conn) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range c.waiting {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// cut tells calls that wait for an answer that it will not come.
func (c *Conn) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hangUp()
	c.line, c.hangUp = context.WithCancel(context.Background())
}

// whenLost has something done when the connection of now is lost, until stop is
// called.
func (c *Conn) whenLost(do func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return context.AfterFunc(c.line, do)
}

// stream returns a handle, looked up once. A register that somebody opened to
// direct reads is refused: they may be old.
func (c *Conn) stream(ctx context.Context, name string) (jetstream.Stream, error) {
	c.mu.Lock()
	s := c.streams[name]
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s, err := c.js.Stream(ctx, name)
	if err != nil {
		return nil, err
	}
	if s.CachedInfo().Config.AllowDirect {
		return nil, fmt.Errorf("%s allows direct reads, which may be old; `sluice topology --apply` mends that", name)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.streams == nil {
		c.streams = map[string]jetstream.Stream{}
	}
	c.streams[name] = s
	return s, nil
}

// hidePasswords drops what stands before the "@" of each URL.
func hidePasswords(urls string) string {
	list := strings.Split(urls, ",")
	for i, u := range list {
		scheme, rest, ok := strings.Cut(strings.TrimSpace(u), "://")
		if !ok {
			scheme, rest = "nats", scheme
		}
		list[i] = scheme + "://" + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return strings.Join(list, ",")
}

// olderThan compares dotted versions; what cannot be read is not older.
func olderThan(version, than string) bool {
	var a, b [3]int
	if _, err := fmt.Sscanf(version, "%d.%d.%d", &a[0], &a[1], &a[2]); err != nil {
		return false
	}
	if _, err := fmt.Sscanf(than, "%d.%d.%d", &b[0], &b[1], &b[2]); err != nil {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}
