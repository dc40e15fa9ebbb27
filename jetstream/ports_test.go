package jetstream_test

import (
	"context"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

// The services declare what they need in their own ports.go and do not import
// this package; nor may it import them. What follows is the same method sets,
// so that a change here that breaks a service fails here first.
type (
	cell[T any] interface {
		Get(ctx context.Context, key string) (messages.Entry[T], error)
		Create(ctx context.Context, key string, value *T) (messages.Revision, error)
		Update(ctx context.Context, key string, value *T, last messages.Revision) (messages.Revision, error)
	}
	reader[T any] interface {
		All(ctx context.Context, filter string, handle func(messages.Entry[T])) error
	}
	watcher[T any] interface {
		reader[T]
		Watch(ctx context.Context, filter string, handle func(messages.Entry[T])) error
	}
	register[T any] interface {
		cell[T]
		reader[T]
	}
	expiring[T any] interface {
		Get(ctx context.Context, key string) (messages.Entry[T], error)
		Create(ctx context.Context, key string, value *T, ttl time.Duration) (messages.Revision, error)
		Update(ctx context.Context, key string, value *T, last messages.Revision, ttl time.Duration) (messages.Revision, error)
		watcher[T]
	}
	receiver interface {
		Receive(ctx context.Context, handle func(context.Context, *messages.Delivery) error) error
	}
	inbox interface {
		Next(ctx context.Context) (*messages.Delivery, error)
	}
	outbox interface {
		Publish(ctx context.Context, subject string, m messages.Message, id string) error
	}
	actions interface {
		PurgeAction(ctx context.Context, subject string) error
	}
	deadLetters interface {
		Park(ctx context.Context, subject string, m messages.Message, by, reason string) error
	}
	room interface {
		Crowded(ctx context.Context) (map[string]string, error)
	}
	sender interface {
		Send(subject string, m messages.Message) error
	}
	line interface {
		Reconnected() (again <-chan struct{}, stop func())
	}
	announcer interface {
		Announce(ctx context.Context, p *messages.Presence, ttl time.Duration) error
	}
	verdicts interface {
		Follow(ctx context.Context, handle func(context.Context, *messages.PersisterEvent), missed func()) error
	}
	controls interface {
		Listen(ctx context.Context, handle func(*messages.Control)) error
	}
)

var (
	_ register[messages.Job]     = (*jetstream.Conn)(nil).JobsRegister()
	_ register[messages.Latest]  = (*jetstream.Conn)(nil).LatestRegister()
	_ register[messages.Plan]    = (*jetstream.Conn)(nil).PlansRegister()
	_ cell[messages.Commit]      = (*jetstream.Conn)(nil).CommitsRegister()
	_ expiring[messages.Lease]   = (*jetstream.Conn)(nil).LeasesRegister()
	_ expiring[messages.Leader]  = (*jetstream.Conn)(nil).LeaderRegister()
	_ watcher[messages.Presence] = (*jetstream.Conn)(nil).PresenceRegister()
	_ watcher[messages.Setting]  = (*jetstream.Conn)(nil).SettingsRegister()
	_ receiver                   = (*jetstream.Queue)(nil)
	_ inbox                      = (*jetstream.Queue)(nil)
	_ outbox                     = (*jetstream.Conn)(nil)
	_ actions                    = (*jetstream.Conn)(nil)
	_ deadLetters                = (*jetstream.Conn)(nil)
	_ room                       = (*jetstream.Conn)(nil)
	_ sender                     = (*jetstream.Conn)(nil)
	_ line                       = (*jetstream.Conn)(nil)
	_ announcer                  = (*jetstream.Conn)(nil)
	_ verdicts                   = jetstream.Verdicts{}
	_ controls                   = jetstream.Controls{}
)
