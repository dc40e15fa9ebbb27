package cli

import (
	"errors"
	"fmt"
	"text/tabwriter"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

type deadCommand struct {
	Ls    deadLs    `cmd:"" help:"List dead letters: what was given up, by whom, and why."`
	Show  deadShow  `cmd:"" help:"Print one, with its headers and its bytes."`
	Retry deadRetry `cmd:"" help:"Publish some where they came from, and take them out."`
	Drop  deadDrop  `cmd:"" help:"Delete some for good: by number, or all of a reason or subject."`
}

type deadLs struct {
	natsFlags
	JSON bool `help:"Print an object a letter."`
}

// Run lists dead letters.
func (cmd *deadLs) Run(a *app) error {
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	list, stop := a.letters(cmd.JSON)
	n := 0
	err = c.DeadLetters(a.ctx, func(l jetstream.DeadLetter) { n++; list(l) })
	if err == nil && n == 0 && !cmd.JSON {
		fmt.Fprintln(a.stdout, "there are no dead letters")
	}
	return errors.Join(err, stop())
}

// letters returns what prints dead letters, a line or an object each, and what
// ends the table.
func (a *app) letters(asJSON bool) (list func(jetstream.DeadLetter), stop func() error) {
	if asJSON {
		return func(l jetstream.DeadLetter) { _ = a.printJSON(l) }, func() error { return nil } // standard output
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	n := 0
	return func(l jetstream.DeadLetter) {
		if n++; n == 1 {
			fmt.Fprintln(tw, "NUMBER\tAT\tBY\tSUBJECT\tBYTES\tREASON")
		}
		subject := progress.Clean(l.Subject)
		if l.Forged() {
			subject += " (forged, on " + progress.Clean(l.Letter) + ")"
		}
		fmt.Fprintf(tw, "%d\t%s\t%s\t%s\t%d\t%s\n", l.Sequence, l.At, progress.Clean(l.By), subject, l.Size, progress.Clean(l.Reason))
	}, tw.Flush
}

type deadShow struct {
	natsFlags
	Number uint64 `arg:"" help:"Number of the letter."`
	Raw    bool   `help:"Print the bytes alone, as they are."`
}

// Run prints a dead letter.
func (cmd *deadShow) Run(a *app) error {
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	l, err := c.DeadLetter(a.ctx, cmd.Number)
	if err != nil {
		return notThere(err)
	}
	if cmd.Raw {
		_, err := a.stdout.Write(l.Data)
		return err
	}
	fmt.Fprintf(a.stdout, "number:  %d\nletter:  %s\nreason:  %s\nsubject: %s\nstream:  %s\nby:      %s\nat:      %s\n", l.Sequence, progress.Clean(l.Letter), progress.Clean(l.Reason), progress.Clean(l.Subject), l.Stream, progress.Clean(l.By), l.At)
	if l.Cut > 0 {
		fmt.Fprintf(a.stdout, "cut:     the whole is message %d of the stream\n", l.Cut)
	}
	for key, values := range l.Header {
		for _, v := range values {
			fmt.Fprintf(a.stdout, "header:  %s: %s\n", progress.Clean(key), progress.Clean(v))
		}
	}
	fmt.Fprintf(a.stdout, "\n%s\n", progress.Clean(string(l.Data)))
	return nil
}

type deadRetry struct {
	natsFlags
	Numbers []uint64 `arg:"" help:"Numbers of the letters."`
}

// Run puts dead letters back.
func (cmd *deadRetry) Run(a *app) error {
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	var errs []error
	for _, n := range cmd.Numbers {
		l, err := c.RetryDead(a.ctx, n)
		if err != nil {
			errs = append(errs, notThere(err))
			continue
		}
		fmt.Fprintf(a.stdout, "put %d back on %s\n", n, progress.Clean(l.Subject))
	}
	return errors.Join(errs...)
}

func notThere(err error) error {
	if errors.Is(err, messages.ErrNotFound) {
		return exit(ExitUsage, err)
	}
	return err
}
