package cli

import (
	"errors"
	"fmt"
	"strings"

	"sluice/jetstream"
	"sluice/messages"
)

type deadDrop struct {
	natsFlags
	Numbers []uint64 `arg:"" optional:"" help:"Numbers of the letters."`
	Reason  string   `help:"All whose reason has this text."`
	Subject string   `help:"All whose subject has this text."`
	Yes     bool     `help:"Do it. Without it, letters that were not named by number are only listed."`
	JSON    bool     `help:"Print an object a letter."`
}

// Run deletes dead letters for good.
func (cmd *deadDrop) Run(a *app) error {
	chosen := cmd.Reason != "" || cmd.Subject != ""
	switch {
	case !chosen && len(cmd.Numbers) == 0:
		return usagef("say which: numbers of dead letters, --reason or --subject")
	case chosen && len(cmd.Numbers) > 0:
		return usagef("either numbers of dead letters, or --reason and --subject")
	}
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	letters, missing, err := cmd.find(a, c)
	if err != nil {
		return err
	}
	list, stop := a.letters(cmd.JSON)
	if chosen && !cmd.Yes && len(letters) > 0 {
		for _, l := range letters {
			list(l)
		}
		return errors.Join(usagef("nothing is dropped yet: with --yes, these %d dead letters are gone for good", len(letters)), stop())
	}
	n := 0
	for _, l := range letters {
		if err = c.DropDead(a.ctx, l.Sequence); errors.Is(err, messages.ErrNotFound) {
			err = nil // somebody else took it out just now
			continue
		}
		if err != nil {
			break
		}
		n++
		list(l)
	}
	err = errors.Join(append(missing, err, stop())...)
	if !cmd.JSON {
		fmt.Fprintf(a.stdout, "dropped %d dead letters\n", n)
	}
	return err
}

// find returns the letters that are meant, and an error for each number that
// none has.
func (cmd *deadDrop) find(a *app, c *jetstream.Conn) (found []jetstream.DeadLetter, missing []error, err error) {
	for _, n := range cmd.Numbers {
		l, err := c.DeadLetter(a.ctx, n)
		switch {
		case errors.Is(err, messages.ErrNotFound):
			missing = append(missing, notThere(err))
		case err != nil:
			return nil, nil, err
		default:
			found = append(found, l)
		}
	}
	if len(cmd.Numbers) > 0 {
		return found, missing, nil
	}
	err = c.DeadLetters(a.ctx, func(l jetstream.DeadLetter) {
		if strings.Contains(l.Reason, cmd.Reason) && strings.Contains(l.Subject, cmd.Subject) {
			l.Data = nil // a stream of them need not fit into memory
			found = append(found, l)
		}
	})
	return found, nil, err
}
