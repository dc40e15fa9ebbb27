package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Error codes of the server that nats.go has no name for.
const (
	codeInsufficientResources = 10023 // the store or the account is full
	codeStreamStoreFailed     = 10077 // a limit of the stream was reached
	codeMessageTooLarge       = 10054 // more than the stream's max_msg_size
	codeNoPeers               = 10005 // a cluster has not heard of enough servers, yet or any more
)

// retry makes a call, bounded in time, again and again while no server answers
// it, until ctx ends.
func (c *Conn) retry(ctx context.Context, call func(context.Context) error) error {
	return c.insist(ctx, func(ctx context.Context) error { return c.attempt(ctx, callTimeout, call) })
}

// attempt makes a call that is broken off after a time, or when the connection
// is lost on which its answer would come. It says then that nobody answered.
func (c *Conn) attempt(ctx context.Context, limit time.Duration, call func(context.Context) error) error {
	callCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	defer c.whenLost(cancel)()
	err := call(callCtx)
	if err != nil && callCtx.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", nats.ErrTimeout, err)
	}
	return err
}

// insist makes a call that bounds itself, again and again while no server
// answers it. A reconnect cuts a pause short.
func (c *Conn) insist(ctx context.Context, call func(context.Context) error) error {
	var again <-chan struct{} // made when the first try has failed: as a rule it does not
	wait := 50 * time.Millisecond
	for tries := 1; ; tries++ {
		err := nats.ErrDisconnected
		if c.Connected() { // nats.go leaks a subscription for a pull that it cannot send
			err = call(ctx)
		} else if c.nc.IsClosed() {
			err = nats.ErrConnectionClosed
		}
		if err == nil || !unreachable(err) {
			return err
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w (%w)", ctx.Err(), err)
		}
		if again == nil {
			var stop func()
			again, stop = c.Reconnected()
			defer stop()
		}
		if tries == 3 {
			why := ""
			if c.Connected() {
				why = "it is there, and its log says why: its disk may be full, or too few servers of the cluster run"
			}
			c.log.Warn().Err(err).Str("hint", why).Msg("NATS does not answer; trying again until it does")
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-again:
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, 5*time.Second)
	}
}

// unreachable reports whether an error means that no server answered.
func unreachable(err error) bool {
	for _, target := range []error{
		nats.ErrNoResponders, nats.ErrTimeout, nats.ErrDisconnected, nats.ErrReconnectBufExceeded, nats.ErrConnectionReconnecting, nats.ErrStaleConnection,
		jetstream.ErrNoStreamResponse, jetstream.ErrAsyncPublishTimeout, jetstream.ErrTooManyStalledMsgs, context.DeadlineExceeded, errPeers,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) || api.Code != 503 {
		return false
	}
	switch api.ErrorCode {
	case codeInsufficientResources, codeStreamStoreFailed, jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount:
		return false
	}
	return true
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

// orEnded drops an error that came because ctx ended.
func orEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
