package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

// For how long it is told that a planner had to begin anew, and after how long a
// message that was tried again and again holds a queue up.
const (
	faultAge = 10 * time.Minute
	stuckAge = time.Minute
)

// stuckWait bounds the look at queues.
const stuckWait = 5 * time.Second

// stuck lists, in sentences for an operator, what keeps a fleet from going on
// though its programs run. Who may not look at something is not told of it.
func stuck(ctx context.Context, c *jetstream.Conn) (said []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, stuckWait) // a user without the right to ask gets no answer
	defer cancel()
	switch e, err := c.LeaderRegister().Get(ctx, messages.LeaderKey); {
	case errors.Is(err, messages.ErrUnreadable):
		said = append(said, "who the active planner is cannot be read, and no other can take over: `nats kv purge SLUICE_FLEET "+messages.LeaderKey+"` mends it")
	case err == nil && e.Value != nil && e.Value.Again > 0 && time.Since(e.Value.AgainAt) < faultAge:
		l := e.Value
		said = append(said, fmt.Sprintf("planner %s has begun anew %d times, last at %s, and its log says more: %s",
			progress.Clean(l.Owner), l.Again, l.AgainAt.Local().Format(time.DateTime), progress.Clean(l.Because)))
	}
	list, err := c.Stuck(ctx, stuckAge)
	for _, s := range list {
		said = append(said, s.String())
	}
	return said, err
}

// checkStuck says what keeps the fleet from going on.
func (cmd *doctorCommand) checkStuck(a *app, _ *finding) (string, error) {
	c, err := cmd.client(a)
	if err != nil {
		return "", errors.New("cannot be looked at without the server")
	}
	defer c.Close()
	said, err := stuck(a.ctx, c)
	if len(said) > 0 {
		return "", errors.New(strings.Join(said, "\n"))
	}
	return "no queue is held up, and no planner had to begin anew", err
}
