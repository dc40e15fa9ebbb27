package cli

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

type rebootCommand struct {
	settingFlags
	Status  bool          `help:"Change nothing; say whether it is safe to reboot, with exit code 1 if it is not."`
	Reason  string        `help:"Why; whoever asks for a waiting job reads it."`
	Wait    bool          `help:"Wait until it is safe to reboot."`
	Timeout time.Duration `help:"With --wait, the longest to wait; 0 for no end."`
}

// Run prepares a backend for a reboot of its machines: it is paused, and every
// running job is stopped and waits. After the reboot: sluice resume.
func (cmd *rebootCommand) Run(a *app) error {
	c, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	if cmd.Status {
		return cmd.status(a, c)
	}
	_, err = cmd.change(a, c, func(s *messages.Setting) error {
		turn(&s.Paused, true, cmd.Reason, true)
		turn(&s.Reboot, true, cmd.Reason, true)
		return nil
	})
	if err != nil {
		return err
	}
	if !cmd.Wait {
		if !cmd.JSON {
			fmt.Fprintf(a.stdout, "running jobs are stopped: `sluice reboot --status` says when it is safe to reboot; `sluice resume` afterwards\n")
		}
		return nil
	}
	ctx, cancel := withTimeout(a.ctx, cmd.Timeout)
	defer cancel()
	if _, err := awaitIdle(ctx, c, cmd.Backend, nil); err != nil {
		return err
	}
	if !cmd.JSON {
		fmt.Fprintln(a.stdout, safe)
	}
	return nil
}

// safe is the reference's sentence (controller/cli/prepare_for_reboot.py).
const safe = "Safe to reboot now"

func (cmd *rebootCommand) status(a *app, c *jetstream.Conn) error {
	act, err := readActivity(a.ctx, c, cmd.Backend, nil)
	if err != nil {
		return err
	}
	e, err := c.SettingsRegister().Get(a.ctx, messages.SettingKey(cmd.Backend))
	if err != nil && !errors.Is(err, messages.ErrNotFound) {
		return err
	}
	prepared := e.Value != nil && e.Value.Reboot != nil
	running := act.running()
	ready := prepared && len(running) == 0
	if cmd.JSON {
		if err := a.printJSON(map[string]any{"backend": cmd.Backend, "prepared": prepared, "safe": ready, "running": append([]*messages.Job{}, running...)}); err != nil {
			return err
		}
	} else if err := cmd.print(a, prepared, running); err != nil {
		return err
	}
	if !ready {
		return exit(ExitOurs, nil)
	}
	return nil
}

func (cmd *rebootCommand) print(a *app, prepared bool, running []*messages.Job) error {
	if len(running) > 0 {
		tw := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
		fmt.Fprintln(tw, "JOB\tWORKSPACE\tACTION\tCODE\tWORKER")
		for _, j := range running {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", j.ID, j.Workspace, progress.Clean(j.Action), j.Code, j.Worker)
		}
		if err := tw.Flush(); err != nil {
			return err
		}
	}
	switch {
	case !prepared:
		fmt.Fprintf(a.stdout, "Not safe to reboot: %s is not prepared; run `sluice reboot --backend %s`\n", cmd.Backend, cmd.Backend)
	case len(running) > 0:
		fmt.Fprintf(a.stdout, "Not safe to reboot: %d jobs still have containers\n", len(running))
	default:
		fmt.Fprintln(a.stdout, safe)
	}
	return nil
}
