package cli

import (
	"fmt"

	"sluice/messages"
)

type pauseCommand struct {
	settingFlags
	Reason string `help:"Why; whoever asks for a waiting job reads it."`
}

// Run has the backend start nothing new. What runs goes on.
func (cmd *pauseCommand) Run(a *app) error {
	c, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = cmd.change(a, c, func(s *messages.Setting) error {
		turn(&s.Paused, true, cmd.Reason, true)
		return nil
	})
	return err
}

type resumeCommand struct {
	settingFlags
}

// Run ends a pause, and what was prepared for a reboot.
func (cmd *resumeCommand) Run(a *app) error {
	c, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := cmd.change(a, c, func(s *messages.Setting) error {
		s.Paused, s.Reboot = nil, nil
		return nil
	})
	if err != nil || cmd.JSON || s.Maintenance == nil {
		return err
	}
	fmt.Fprintf(a.stdout, "database actions wait for the end of the maintenance: sluice maintenance off\n")
	return nil
}
