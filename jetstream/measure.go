package jetstream

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A Tapped is a message that somebody published, whether or not it was stored.
type Tapped struct {
	Subject string
	Header  map[string][]string
	Data    []byte
	At      time.Time // when it was heard
}

// Tap hears what is published on subjects, until ctx ends: for measuring what a
// fleet does. Ready is called once nothing published from then on is missed.
func (c *Conn) Tap(ctx context.Context, subjects []string, ready func(), handle func(Tapped)) error {
	heard := make(chan *nats.Msg, 64<<10)
	for _, subject := range subjects {
		sub, err := c.nc.ChanSubscribe(subject, heard)
		if err != nil {
			return fmt.Errorf("tap %s: %w", subject, err)
		}
		defer func() { _ = sub.Unsubscribe() }() // a closed connection has forgotten it already
	}
	if err := c.nc.FlushTimeout(callTimeout); err != nil {
		return orEnded(ctx, fmt.Errorf("tap: %w", err))
	}
	ready()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-heard:
			handle(Tapped{Subject: m.Subject, Header: m.Header, Data: m.Data, At: time.Now()})
		}
	}
}

// Repeat publishes a message like one that was heard, and waits until the server
// has stored it. What the first one expected of the stream is left out, and the
// id gets an ending of its own: it is another message.
func (c *Conn) Repeat(ctx context.Context, t Tapped, ending string) error {
	msg := &nats.Msg{Subject: t.Subject, Data: t.Data, Header: nats.Header{}}
	for name, values := range t.Header {
		switch {
		case strings.HasPrefix(name, "Nats-Expected-"):
		case name == nats.MsgIdHdr && len(values) == 1:
			msg.Header.Set(name, values[0]+ending)
		default:
			msg.Header[name] = values
		}
	}
	if _, err := c.js.PublishMsg(ctx, msg); err != nil {
		return fmt.Errorf("store on %s: %w", t.Subject, err)
	}
	return nil
}

// Load publishes what next returns until it has no more, without waiting for
// each to be stored: for filling a server before something is measured.
func (c *Conn) Load(ctx context.Context, next func() (subject string, data []byte, ok bool)) error {
	js, err := jetstream.New(c.nc, jetstream.WithPublishAsyncMaxPending(4096))
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	var waiting []jetstream.PubAckFuture
	settle := func(keep int) error {
		for len(waiting) > keep {
			select {
			case <-waiting[0].Ok():
			case err := <-waiting[0].Err():
				return fmt.Errorf("load: %w", err)
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			waiting = waiting[1:]
		}
		return nil
	}
	for subject, data, ok := next(); ok; subject, data, ok = next() {
		future, err := js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: data})
		if err != nil {
			return fmt.Errorf("load %s: %w", subject, err)
		}
		waiting = append(waiting, future)
		if err := settle(2048); err != nil {
			return err
		}
	}
	return settle(0)
}
