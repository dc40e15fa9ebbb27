package jetstream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// Provision makes the server's streams, registers and consumers what the
// topology says. It may be repeated. It never deletes: a change that would cost
// stored messages, or that the server cannot make, is refused with what to do.
func (c *Conn) Provision(ctx context.Context, t Topology) error {
	if err := t.Validate(); err != nil {
		return err
	}
	for _, config := range t.streams() {
		if err := c.ensureStream(ctx, config); err != nil {
			return fmt.Errorf("provision stream %s: %w", config.Name, hint(err))
		}
	}
	c.mu.Lock()
	c.streams = nil // what was known of them may have changed
	c.mu.Unlock()
	for _, want := range t.consumers() {
		if err := c.ensureConsumer(ctx, want); err != nil {
			return fmt.Errorf("provision consumer %s of %s: %w", want.config.Durable, want.stream, hint(err))
		}
	}
	return nil
}

// errPeers says that a cluster, which may just have been started, has not heard
// of as many servers as there shall be replicas.
var errPeers = errors.New("it has not heard of enough servers yet")

// patiently is retry for a person who watches: it says at the first time that
// nothing is answered what is waited for. A cluster may have to choose a leader.
func (c *Conn) patiently(ctx context.Context, what string, call func(context.Context) error) error {
	var why error
	err := c.retry(ctx, func(ctx context.Context) error {
		err := call(ctx)
		if api := (*jetstream.APIError)(nil); errors.As(err, &api) && api.ErrorCode == codeNoPeers {
			err = fmt.Errorf("%w (%w)", err, errPeers)
		}
		if err != nil && unreachable(err) {
			if why == nil {
				c.log.Warn().Err(err).Str("for", what).Msg("waiting for the server; one of a cluster answers when more than half of its servers run and have chosen a leader")
			}
			why = err
		}
		return err
	})
	if err != nil && ctx.Err() != nil && why != nil && !errors.Is(err, why) {
		return fmt.Errorf("%w (%w)", err, why)
	}
	return err
}

func (c *Conn) ensureStream(ctx context.Context, want jetstream.StreamConfig) error {
	return c.patiently(ctx, "stream "+want.Name, func(ctx context.Context) error {
		have, err := c.js.Stream(ctx, want.Name)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			_, err = c.js.CreateStream(ctx, want)
			return err
		}
		if err != nil {
			return err
		}
		info := have.CachedInfo()
		if len(streamDiffs(want, info.Config)) == 0 {
			return nil
		}
		if err := refuseLoss(want, info); err != nil {
			return err
		}
		_, err = c.js.UpdateStream(ctx, merge(want, info.Config))
		return err
	})
}

// refuseLoss reports a change that the server would make by deleting messages,
// or not at all.
func refuseLoss(want jetstream.StreamConfig, info *jetstream.StreamInfo) error {
	have := info.Config
	switch {
	case have.Storage != want.Storage:
		return unchangeable("storage", have.Storage, want.Storage)
	case have.Retention != want.Retention:
		return unchangeable("retention", have.Retention, want.Retention)
	case have.PersistMode != want.PersistMode:
		return unchangeable("persist mode", have.PersistMode, want.PersistMode)
	case have.Sealed:
		return errors.New("it is sealed, for good: back it up, delete it, and provision again")
	case have.DenyDelete && !want.DenyDelete:
		return unchangeable("deny_delete", true, false)
	case have.DenyPurge && !want.DenyPurge:
		return unchangeable("deny_purge", true, false)
	case have.Mirror != nil || len(have.Sources) > 0:
		return errors.New("it is a copy of other streams: back it up, delete it, and provision again")
	}
	if used := int64(info.State.Bytes); used > want.MaxBytes && want.Discard == jetstream.DiscardOld {
		return fmt.Errorf("it holds %d bytes and would be bound to %d, which deletes the oldest: give the streams a larger store, or purge it first", used, want.MaxBytes)
	}
	if per := have.MaxMsgsPerSubject; info.State.Msgs > 0 && want.MaxMsgsPerSubject > 0 && (per <= 0 || per > want.MaxMsgsPerSubject) {
		return fmt.Errorf("it keeps %s messages of each subject and would be bound to %d, which deletes the oldest: purge it first", unlimited(per), want.MaxMsgsPerSubject)
	}
	return nil
}

func unchangeable(what string, have, want any) error {
	return fmt.Errorf("its %s is %v and should be %v, which a server cannot change: back it up, delete it, and provision again", what, have, want)
}

// merge keeps what operators may set on a stream and we have no opinion on.
func merge(want, have jetstream.StreamConfig) jetstream.StreamConfig {
	want.Placement, want.Metadata, want.Compression, want.ConsumerLimits = have.Placement, have.Metadata, have.Compression, have.ConsumerLimits
	return want
}

func (c *Conn) ensureConsumer(ctx context.Context, want consumer) error {
	return c.patiently(ctx, "consumer "+want.config.Durable+" of "+want.stream, func(ctx context.Context) error {
		have, err := c.js.Consumer(ctx, want.stream, want.config.Durable)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			_, err = c.js.CreateConsumer(ctx, want.stream, want.config)
			return err
		}
		if err != nil {
			return err
		}
		if len(consumerDiffs("", want.config, have.CachedInfo().Config)) == 0 {
			return nil
		}
		config := want.config
		config.Metadata = have.CachedInfo().Config.Metadata
		if _, err = c.js.UpdateConsumer(ctx, want.stream, config); err != nil {
			return fmt.Errorf("%w; `nats consumer rm %s %s` and provisioning again makes it anew, which delivers once more what was not acknowledged", err, want.stream, want.config.Durable)
		}
		return nil
	})
}

// hint adds to the server's words what to do.
func hint(err error) error {
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return err
	}
	switch api.ErrorCode {
	case 10047, codeInsufficientResources:
		return fmt.Errorf("%w: the server's store is smaller than what the streams may take together; give them less, or the server more (max_file)", err)
	case 10065:
		return fmt.Errorf("%w: another stream takes the same subjects; `nats stream find --subject 'sluice.>'` names it", err)
	case 10074:
		return fmt.Errorf("%w: a single server keeps one replica", err)
	case codeNoPeers:
		return fmt.Errorf("%w: the cluster has fewer servers than replicas are wanted", err)
	}
	return err
}
