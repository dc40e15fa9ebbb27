package progress

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"sluice/messages"
)

// Lines prints an event a line: for logs, pipes and CI.
type Lines struct {
	W      io.Writer
	Colour bool
	GitHub bool // fold each failed job's log as GitHub Actions does
	Quiet  bool // leave out the steps between start and end

	width int
	shown map[messages.JobID]messages.Code
}

var _ Printer = (*Lines)(nil)

// Planned prints what runs and what does not, each with its reason.
func (l *Lines) Planned(plan *messages.Plan) {
	for _, w := range plan.Warnings {
		fmt.Fprintf(l.W, "%s %s\n", l.paint(yellow, "warning:"), Clean(w))
	}
	runs, skips := 0, 0
	for _, j := range plan.Jobs {
		l.width = max(l.width, len(Clean(j.Action)))
		if j.Reused {
			skips++
			continue
		}
		runs++
	}
	for _, j := range plan.Jobs {
		verb := l.paint(bold, "run ")
		if j.Reused {
			verb = "skip"
		}
		fmt.Fprintf(l.W, "  %s  %-*s  %s\n", verb, l.width, Clean(j.Action), l.paint(dim, Why(j.Why)))
	}
	fmt.Fprintf(l.W, "%s to run, %d not\n", count(runs, "action"), skips)
}

// Changed prints a job's new code, and why it waits.
func (l *Lines) Changed(j *messages.Job) {
	if l.shown == nil {
		l.shown = map[messages.JobID]messages.Code{}
	}
	if l.shown[j.ID] == j.Code || l.Quiet && !j.State.Final() {
		return
	}
	l.shown[j.ID] = j.Code
	fmt.Fprintln(l.W, l.line(j))
}

// line is one change in words.
func (l *Lines) line(j *messages.Job) string {
	text := string(j.Code)
	switch {
	case j.State == messages.Succeeded:
		text = l.paint(green, text) + "  " + took(j, j.Updated) + "  " + l.paint(dim, files(j))
	case j.State == messages.Failed:
		text = l.paint(red, text) + "  " + took(j, j.Updated) + "  " + Clean(j.Message)
	case j.State == messages.Pending && j.Code != messages.Created:
		text = text + "  " + l.paint(dim, Clean(j.Message))
	case j.Attempt > 1:
		text = fmt.Sprintf("%s  %s", text, l.paint(yellow, fmt.Sprintf("(attempt %d)", j.Attempt)))
	}
	return fmt.Sprintf("%s  %-*s  %s", l.paint(dim, j.Updated.Local().Format("15:04:05")), l.width, Clean(j.Action), strings.TrimRight(text, " "))
}

// Ended prints the table of jobs, then what went wrong, then where all is.
func (l *Lines) Ended(s Summary) {
	fmt.Fprintln(l.W)
	tw := tabwriter.NewWriter(l.W, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "ACTION\tSTATE\tTIME\tFILES")
	for _, j := range s.sorted() {
		state := string(j.Code)
		if j.State == messages.Succeeded && reused(s.Plan, j.ID) {
			state += " (before)"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", Clean(j.Action), state, took(j, j.Updated), files(j))
	}
	tw.Flush()

	for _, j := range s.sorted() {
		if !reused(s.Plan, j.ID) || j.State == messages.Failed {
			l.explain(s, j)
		}
	}
	fmt.Fprintln(l.W)
	for _, f := range s.Folders {
		fmt.Fprintf(l.W, "%s: %s\n", f.What, f.Path)
	}
	if s.Took > 0 {
		fmt.Fprintf(l.W, "took %s\n", Took(s.Took))
	}
}

// explain prints what a reader must know of one job, if anything.
func (l *Lines) explain(s Summary, j *messages.Job) {
	details := Details(j)
	quiet := j.State == messages.Succeeded || j.Code == messages.DependencyFailed || j.Code == messages.CancelledByUser
	if len(details) == 0 && quiet {
		return
	}
	fmt.Fprintf(l.W, "\n%s %s\n", l.paint(bold, "=> "+Clean(j.Action)), "")
	fmt.Fprintf(l.W, "   %s\n", Clean(j.Message))
	for _, d := range details {
		fmt.Fprintf(l.W, "   %s\n", d)
	}
	if quiet {
		return
	}
	if s.LogPath != nil {
		if path := s.LogPath(j); path != "" {
			fmt.Fprintf(l.W, "   log: %s\n", path)
		}
	}
	if s.Tail == nil {
		return
	}
	tail := s.Tail(j)
	if len(tail) == 0 {
		return
	}
	if l.GitHub {
		fmt.Fprintf(l.W, "::group:: log of %s\n", Clean(j.Action))
		defer fmt.Fprintln(l.W, "::endgroup::")
	} else {
		fmt.Fprintf(l.W, "   last lines of the log:\n")
	}
	for _, line := range tail {
		fmt.Fprintf(l.W, "     %s\n", l.paint(dim, Clean(line)))
	}
}

func reused(plan *messages.Plan, id messages.JobID) bool {
	for _, p := range plan.Jobs {
		if p.Job == id {
			return p.Reused
		}
	}
	return false
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

const (
	bold   = "1"
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (l *Lines) paint(style, s string) string {
	if !l.Colour || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}

// now is the clock of live displays.
func now() time.Time { return time.Now() }
