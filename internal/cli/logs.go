package cli

import (
	"fmt"
	"io"
	"strings"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

type logsCommand struct {
	jobFlags
	Follow     bool `short:"f" help:"Go on until the attempt ends."`
	Attempt    int  `help:"Attempt; the newest by default."`
	Timestamps bool `help:"Keep the time of each line."`
}

// Run prints a log from the stream, which keeps the newest part of it. The
// whole log lies in the highly sensitive tier.
func (cmd *logsCommand) Run(a *app) error {
	c, j, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	attempt := cmd.Attempt
	if attempt == 0 {
		attempt = max(j.Attempt, 1)
	}
	subject := messages.LogSubject(j.Backend, j.ID, attempt)
	n, err := c.Count(a.ctx, jetstream.Logs, subject)
	if err != nil {
		return err
	}
	if n == 0 && (!cmd.Follow || j.State.Final()) {
		fmt.Fprintf(a.stderr, "sluice: attempt %d of %s has no log here (%s); logs are kept in the stream for a while, and for good in the tier\n", attempt, j.ID, j.Code)
		return nil
	}
	out := &lineWriter{w: a.stdout, timestamps: cmd.Timestamps}
	at := int64(0)
	err = c.Follow(a.ctx, jetstream.Logs, subject, jetstream.Start{}, func(f jetstream.Followed) bool {
		var chunk messages.LogChunk
		if err := messages.Decode(f.Data, &chunk); err != nil {
			return true
		}
		if chunk.Offset > at {
			fmt.Fprintf(a.stderr, "sluice: %s of the log are not in the stream\n", progress.Bytes(chunk.Offset-at))
		}
		if chunk.Offset >= at {
			out.write(chunk.Text)
			at = chunk.Offset + int64(len(chunk.Text))
		}
		return !chunk.Last && (cmd.Follow || f.Pending > 0)
	})
	out.flush()
	return err
}

// A lineWriter prints a log's lines, fit for a terminal.
type lineWriter struct {
	w          io.Writer
	timestamps bool
	rest       string
}

func (l *lineWriter) write(text string) {
	lines := strings.Split(l.rest+text, "\n")
	l.rest = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		l.print(line)
	}
	if len(l.rest) > 1<<20 {
		l.flush()
	}
}

func (l *lineWriter) flush() {
	if l.rest != "" {
		l.print(l.rest)
		l.rest = ""
	}
}

func (l *lineWriter) print(line string) {
	if !l.timestamps {
		line = withoutTime(line)
	}
	fmt.Fprintln(l.w, progress.Clean(strings.TrimSuffix(line, "\r")))
}
