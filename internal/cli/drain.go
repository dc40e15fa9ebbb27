package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

type drainCommand struct {
	settingFlags
	Workers []string      `arg:"" help:"Names of workers, as sluice ps shows them."`
	Off     bool          `help:"Have them take actions again."`
	Wait    bool          `help:"Wait until nothing runs on them."`
	Timeout time.Duration `help:"The longest to wait for a worker to obey, and with --wait for what runs; 0 for no end." default:"30s"`
}

// Run has workers take nothing new, until they are told otherwise, also after a
// restart of theirs.
func (cmd *drainCommand) Run(a *app) error {
	c, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, name := range cmd.Workers {
		if err := messages.CheckWorker(name); err != nil {
			return exit(ExitUsage, err)
		}
	}
	live, err := cmd.live(a, c)
	if err != nil {
		return err
	}
	_, err = cmd.change(a, c, func(s *messages.Setting) error {
		s.Drain = slices.DeleteFunc(s.Drain, func(name string) bool { return slices.Contains(cmd.Workers, name) })
		if !cmd.Off {
			s.Drain = append(s.Drain, cmd.Workers...)
			slices.Sort(s.Drain)
			s.Drain = slices.Compact(s.Drain)
		}
		return nil
	})
	if err != nil {
		return err
	}
	kind := messages.ControlDrain
	if cmd.Off {
		kind = messages.ControlOpen
	}
	for _, name := range cmd.Workers { // the fast path; the planner tells them, too
		if err := c.Send(messages.ControlSubject(cmd.Backend, name), &messages.Control{Kind: kind}); err != nil {
			return err
		}
	}
	return cmd.await(a, c, live)
}

// live lists the workers of the backend. It refuses to drain what is none: a
// misspelt name would drain nobody.
func (cmd *drainCommand) live(a *app, c *jetstream.Conn) (map[string]bool, error) {
	names := map[string]bool{}
	err := c.PresenceRegister().All(a.ctx, "worker."+messages.Token(cmd.Backend)+".*", func(e messages.Entry[messages.Presence]) { names[e.Value.Worker] = true })
	if err != nil || cmd.Off {
		return names, err
	}
	var unknown messages.Problems
	for _, name := range cmd.Workers {
		if !names[name] {
			unknown = append(unknown, fmt.Sprintf("no worker %s lives at %s", name, cmd.Backend))
		}
	}
	if len(unknown) > 0 {
		return nil, exit(ExitUsage, unknown)
	}
	return names, nil
}

// await waits until the workers say that they have heard.
func (cmd *drainCommand) await(a *app, c *jetstream.Conn, live map[string]bool) error {
	ctx, cancel := withTimeout(a.ctx, cmd.Timeout)
	defer cancel()
	watch, stop := context.WithCancel(ctx)
	defer stop()
	left := map[string]bool{}
	for _, name := range cmd.Workers {
		left[name] = !cmd.Off || live[name] // one that is down will hear it when it comes
	}
	maps.DeleteFunc(left, func(_ string, wanted bool) bool { return !wanted })
	if len(left) == 0 {
		return nil
	}
	err := c.PresenceRegister().Watch(watch, "worker."+messages.Token(cmd.Backend)+".*", func(e messages.Entry[messages.Presence]) {
		p := e.Value
		if p == nil || !left[p.Worker] || p.Draining == cmd.Off {
			return
		}
		used := 0.0
		for _, slots := range p.Pools {
			used += slots.Used
		}
		if cmd.Wait && !cmd.Off && used > 0 {
			return
		}
		delete(left, p.Worker)
		if !cmd.JSON {
			fmt.Fprintf(a.stdout, "%s: %s\n", p.Worker, drainWords(cmd.Off, used))
		}
		if len(left) == 0 {
			stop()
		}
	})
	if len(left) == 0 {
		return nil
	}
	cause := context.Cause(ctx)
	var coded *exitError
	if errors.As(cause, &coded) {
		cause = exit(coded.code, fmt.Errorf("%d workers have not done so after %s; the setting stays, and they do when they hear of it: see `sluice ps`", len(left), cmd.Timeout))
	}
	return errors.Join(err, cause)
}

func drainWords(off bool, used float64) string {
	switch {
	case off:
		return "takes actions"
	case used > 0:
		return fmt.Sprintf("takes nothing new; %g slots are still used", used)
	}
	return "takes nothing new, and nothing runs there"
}
