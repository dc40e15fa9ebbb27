package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

// MinServer is the oldest server that has what the registers need: a time to
// live for each message, and markers for those that expired.
const MinServer = "2.11.0"

// callTimeout bounds one request to the server.
const callTimeout = 10 * time.Second

// Options say how to reach a server and as whom.
type Options struct {
	URL         string // one or several, comma-separated
	Name        string // of this connection, for `nats server report connections`
	Creds       string // file
	NKey        string // seed file
	User        string
	Password    string
	Token       string
	CA          string // file
	Cert        string // file
	Key         string // file
	APIPrefix   string // of the JetStream API, for accounts that import it; empty means $JS.API
	InboxPrefix string // for users that may subscribe to nothing else; empty means _INBOX
	Server      *Server
	Log         zerolog.Logger
}

// A Conn is a connection to the fleet's server.
type Conn struct {
	nc  *nats.Conn
	js  jetstream.JetStream
	log zerolog.Logger

	mu      sync.Mutex
	streams map[string]jetstream.Stream
	waiting map[chan struct{}]bool
}

// Connect connects and checks the server's version. It tries until ctx ends.
// Later losses of the connection are mended without end; nothing is buffered
// meanwhile, as a publish whose caller gave up would be sent all the same.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	c := &Conn{log: o.Log, waiting: map[chan struct{}]bool{}}
	opts, err := c.natsOptions(o)
	if err != nil {
		return nil, err
	}
	url := o.URL
	if url == "" {
		url = nats.DefaultURL
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 2*time.Second) {
		if c.nc, err = nats.Connect(url, opts...); err == nil {
			break
		}
		if errors.Is(err, nats.ErrAuthorization) || !pause(ctx, wait) {
			return nil, fmt.Errorf("connect to NATS at %s: %w", hidePassword(url), err)
		}
	}
	if v := c.nc.ConnectedServerVersion(); olderThan(v, MinServer) {
		c.nc.Close()
		return nil, fmt.Errorf("NATS server at %s is version %s; %s or newer is needed", hidePassword(url), v, MinServer)
	}
	opt := jetstream.WithDefaultTimeout(callTimeout)
	if o.APIPrefix != "" {
		c.js, err = jetstream.NewWithAPIPrefix(c.nc, o.APIPrefix, opt)
	} else {
		c.js, err = jetstream.New(c.nc, opt)
	}
	if err != nil {
		c.nc.Close()
		return nil, fmt.Errorf("open JetStream: %w", err)
	}
	return c, nil
}

func (c *Conn) natsOptions(o Options) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.ReconnectBufSize(-1),
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			c.log.Warn().AnErr("cause", err).Msg("connection to NATS lost")
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.log.Info().Str("server", nc.ConnectedServerName()).Msg("connection to NATS is back")
			c.wake()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			line := c.log.Warn().Err(err) // a denied publish is heard of here only
			if sub != nil {
				line = line.Str("subject", sub.Subject)
			}
			line.Msg("NATS reports an error")
		}),
	}
	add := func(on bool, opt func() (nats.Option, error)) error {
		if !on {
			return nil
		}
		made, err := opt()
		if err == nil {
			opts = append(opts, made)
		}
		return err
	}
	plain := func(opt nats.Option) func() (nats.Option, error) {
		return func() (nats.Option, error) { return opt, nil }
	}
	err := errors.Join(
		add(o.Creds != "", plain(nats.UserCredentials(o.Creds))),
		add(o.NKey != "", func() (nats.Option, error) { return nats.NkeyOptionFromSeed(o.NKey) }),
		add(o.User != "", plain(nats.UserInfo(o.User, o.Password))),
		add(o.Token != "", plain(nats.Token(o.Token))),
		add(o.CA != "", plain(nats.RootCAs(o.CA))),
		add(o.Cert != "", plain(nats.ClientCert(o.Cert, o.Key))),
		add(o.InboxPrefix != "", plain(nats.CustomInboxPrefix(o.InboxPrefix))),
		add(o.Server != nil, func() (nats.Option, error) { return nats.InProcessServer(o.Server), nil }),
	)
	if err != nil {
		return nil, fmt.Errorf("read NATS credentials: %w", err)
	}
	return opts, nil
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

// pause waits, and reports false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func hidePassword(url string) string {
	if scheme, rest, ok := strings.Cut(url, "://"); ok {
		if _, host, ok := strings.Cut(rest, "@"); ok {
			return scheme + "://" + host
		}
	}
	return url
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
