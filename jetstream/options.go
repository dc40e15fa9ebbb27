package jetstream

import (
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
)

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

// nats turns the options into those of nats.go.
func (o Options) nats(c *Conn) ([]nats.Option, error) {
	opts := []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // credentials are read again at each try: they may have been renewed
		nats.ReconnectBufSize(-1),   // else a write whose caller gave up would be sent all the same
		nats.ReconnectWait(250 * time.Millisecond),
		nats.ReconnectJitter(500*time.Millisecond, time.Second),
		nats.Timeout(5 * time.Second),
		nats.PingInterval(10 * time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) {
			c.cut()
			if !nc.IsClosed() {
				c.log.Warn().AnErr("cause", err).Msg("connection to NATS lost")
			}
		}),
		nats.ReconnectHandler(func(nc *nats.Conn) {
			c.log.Info().Str("server", nc.ConnectedServerName()).Msg("connection to NATS is back")
			c.wake()
		}),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			line := c.log.Warn().Err(err) // a denied publish is heard of here only; the error names its subject
			if sub != nil {
				line = line.Str("subject", sub.Subject)
			}
			line.Msg("NATS reports an error")
		}),
	}
	add := func(on bool, opt nats.Option) {
		if on {
			opts = append(opts, opt)
		}
	}
	add(o.Creds != "", nats.UserCredentials(o.Creds))
	add(o.User != "", nats.UserInfo(o.User, o.Password))
	add(o.Token != "", nats.Token(o.Token))
	add(o.CA != "", nats.RootCAs(o.CA))
	add(o.Cert != "" || o.Key != "", nats.ClientCert(o.Cert, o.Key))
	add(o.InboxPrefix != "", nats.CustomInboxPrefix(o.InboxPrefix))
	add(o.Server != nil, nats.InProcessServer(o.Server))
	opts = append(opts, cuttable(o)...)
	if o.NKey != "" {
		seed, err := nats.NkeyOptionFromSeed(o.NKey)
		if err != nil {
			return nil, fmt.Errorf("read the NKey seed %s: %w", o.NKey, err)
		}
		opts = append(opts, seed)
	}
	if n := count(o.Creds, o.NKey, o.User, o.Token); n > 1 {
		return nil, errors.New("give one of: a credentials file, an NKey seed, a user, a token")
	}
	return opts, nil
}

// api opens JetStream. Registers are written below the prefix too: an account
// that imports the API under another name has nothing else to write through.
func (o Options) api(nc *nats.Conn) (js jetstream.JetStream, registers string, err error) {
	bounds := []jetstream.JetStreamOpt{jetstream.WithDefaultTimeout(callTimeout), jetstream.WithPublishAsyncTimeout(callTimeout)}
	if o.APIPrefix == "" {
		js, err = jetstream.New(nc, bounds...)
		return js, "$KV.", err
	}
	js, err = jetstream.NewWithAPIPrefix(nc, o.APIPrefix, bounds...)
	return js, o.APIPrefix + ".$KV.", err
}

func count(values ...string) int {
	n := 0
	for _, v := range values {
		if v != "" {
			n++
		}
	}
	return n
}
