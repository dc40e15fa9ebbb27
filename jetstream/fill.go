package jetstream

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// A Fill is how full a stream or register is.
type Fill struct {
	Name     string `json:"name"`
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`
	MaxBytes int64  `json:"max_bytes"`
	Percent  int    `json:"percent"`           // of its bytes, or of its messages where they are bounded
	Warning  string `json:"warning,omitempty"` // it is more than half full, and what to do
}

// What it comes to when a stream is full.
const (
	refuses = "when it is full the fleet stands still"
	forgets = "when it is full its oldest messages go for good: "
)

// crowded says of each stream what it comes to when it is full, and what to do
// about it. Logs and events are not there: they may well be full, as others keep
// what they tell.
var crowded = map[string]string{
	Requests:        "when it is full of unread requests it refuses more: see that a planner runs",
	Actions:         "when it is full no action starts: see that workers run",
	Files:           "when it is full workers wait with what they have run: see that persisters run",
	Outcomes:        forgets + "have the job servers read them",
	Dead:            forgets + "look with `sluice dead ls`, then use `sluice dead retry` or `sluice dead drop`",
	Advisories:      "the server complains: look with `nats stream view " + Advisories + "`",
	"KV_" + Jobs:    refuses,
	"KV_" + Leases:  refuses,
	"KV_" + Commits: refuses,
	"KV_" + Fleet:   refuses,
}

// Fills tells how full each stream and register is, of those that are there.
func (c *Conn) Fills(ctx context.Context) ([]Fill, error) {
	var list []Fill
	for _, row := range table() {
		name := row.config.Name
		info, err := c.info(ctx, name, "")
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look at stream %s: %w", name, err)
		}
		taken := takenOf(info)
		f := Fill{
			Name: strings.TrimPrefix(name, "KV_"), Messages: info.State.Msgs,
			Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes, Percent: int(100 * taken),
		}
		if name == Requests && taken > 0.5 { // what was read goes when its room is needed: see room.go
			unread, err := c.unreadRequests(ctx)
			if err != nil {
				return nil, err
			}
			taken *= float64(unread) / float64(max(f.Messages, 1))
		}
		if advice := crowded[name]; taken > 0.5 && advice != "" {
			f.Warning = fmt.Sprintf("%s is %d %% full; %s", f.Name, f.Percent, advice)
		}
		list = append(list, f)
	}
	return list, nil
}

// Crowded returns, by the name of each stream and register that is more than half
// full, what that comes to and what to do.
func (c *Conn) Crowded(ctx context.Context) (map[string]string, error) {
	fills, err := c.Fills(ctx)
	if err != nil {
		return nil, err
	}
	warnings := map[string]string{}
	for _, f := range fills {
		if f.Warning != "" {
			warnings[f.Name] = f.Warning
		}
	}
	return warnings, nil
}

// takenOf is how much a stream holds of what it may hold, from 0 to 1.
func takenOf(info *jetstream.StreamInfo) (taken float64) {
	if most := info.Config.MaxBytes; most > 0 {
		taken = float64(info.State.Bytes) / float64(most)
	}
	if most := info.Config.MaxMsgs; most > 0 {
		taken = max(taken, float64(info.State.Msgs)/float64(most))
	}
	return taken
}

// unreadRequests counts those that the planner has not settled.
func (c *Conn) unreadRequests(ctx context.Context) (n uint64, err error) {
	err = c.retry(ctx, func(ctx context.Context) error {
		consumer, err := c.js.Consumer(ctx, Requests, PlannerConsumer) // asks the leader
		if err != nil {
			return err
		}
		info := consumer.CachedInfo()
		n = info.NumPending + uint64(info.NumAckPending) //nolint:gosec // a count
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("look at consumer %s of %s: %w", PlannerConsumer, Requests, err)
	}
	return n, nil
}
