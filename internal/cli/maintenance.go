package cli

import (
	"fmt"
	"time"

	"sluice/messages"
)

type maintenanceCommand struct {
	settingFlags
	State     string        `arg:"" enum:"on,off" help:"on or off."`
	Reason    string        `help:"Why; whoever asks for a waiting job reads it."`
	Scheduled bool          `help:"As a program that asks the database says: what a person has switched on stays on, and is not switched by it."`
	Wait      bool          `help:"With on: wait until no database action runs any more."`
	Timeout   time.Duration `help:"With --wait, the longest to wait; 0 for no end."`
}

// Run switches database maintenance on or off. While it is on, running database
// actions are stopped and wait; they start again afterwards.
func (cmd *maintenanceCommand) Run(a *app) error {
	c, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	on := cmd.State == "on"
	s, err := cmd.change(a, c, func(s *messages.Setting) error {
		if cmd.Scheduled && s.Maintenance != nil && s.Maintenance.Manual {
			return nil
		}
		turn(&s.Maintenance, on, cmd.Reason, !cmd.Scheduled)
		return nil
	})
	if err != nil {
		return err
	}
	if s.Maintenance != nil && !on && !cmd.JSON {
		fmt.Fprintln(a.stdout, "a person has switched it on: without --scheduled it is switched off")
	}
	if !on || !cmd.Wait {
		return nil
	}
	ctx, cancel := withTimeout(a.ctx, cmd.Timeout)
	defer cancel()
	act, err := awaitIdle(ctx, c, cmd.Backend, func(j *messages.Job) bool { return j.Database })
	if err != nil {
		return err
	}
	if !cmd.JSON {
		fmt.Fprintf(a.stdout, "%s: no database action runs; %d wait\n", cmd.Backend, act.waiting())
	}
	return nil
}
