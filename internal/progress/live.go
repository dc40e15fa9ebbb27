package progress

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"sluice/messages"
)

// Live prints ends as lines and keeps a block below them that shows what runs,
// what waits and why. It is for terminals.
type Live struct {
	out   io.Writer
	width func() int // columns of the terminal

	mu    sync.Mutex
	lines Lines
	text  bytes.Buffer // what Lines wrote, until the next draw
	plan  *messages.Plan
	jobs  map[messages.JobID]*messages.Job
	drawn int // lines of the block on the screen
	ended bool
}

var _ Printer = (*Live)(nil)

// NewLive returns a live display on a terminal.
func NewLive(out io.Writer, colour bool, width func() int) *Live {
	l := &Live{out: out, width: width, jobs: map[messages.JobID]*messages.Job{}}
	l.lines = Lines{W: &l.text, Colour: colour, Quiet: true}
	return l
}

// Run redraws the block, whose times go on, until ctx ends.
func (l *Live) Run(ctx context.Context) {
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.mu.Lock()
			l.draw()
			l.mu.Unlock()
		}
	}
}

// Planned prints the plan as lines.
func (l *Live) Planned(plan *messages.Plan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plan = plan
	l.lines.Planned(plan)
	l.draw()
}

// Changed prints an end as a line; all else goes into the block.
func (l *Live) Changed(j *messages.Job) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.jobs[j.ID] = j
	l.lines.Changed(j)
	l.draw()
}

// Ended takes the block away and prints the end as lines.
func (l *Live) Ended(s Summary) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.lines.Ended(s)
	l.draw()
}

// draw moves up over the old block, prints new lines, and draws the block.
func (l *Live) draw() {
	var b bytes.Buffer
	if l.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA\x1b[J", l.drawn)
	}
	b.Write(l.text.Bytes())
	l.text.Reset()
	l.drawn = 0
	if !l.ended && l.plan != nil {
		for _, line := range l.block() {
			fmt.Fprintf(&b, "%s\n", cut(line, l.width()-1))
			l.drawn++
		}
	}
	_, _ = l.out.Write(b.Bytes()) // a terminal that is gone ends the process by other means
}

// maxShown bounds the running and the waiting jobs that the block names.
const maxShown = 6

// block is the live part: a line a running job, then the waiting ones.
func (l *Live) block() []string {
	var running, waiting []string
	ended, total := 0, 0
	for _, p := range l.plan.Jobs {
		if p.Reused && p.Why != messages.WhyActive {
			continue
		}
		total++
		j := l.jobs[p.Job]
		switch {
		case j == nil:
			waiting = append(waiting, Clean(p.Action)+"  planned")
		case j.State.Final():
			ended++
		case j.State == messages.Running:
			running = append(running, fmt.Sprintf("  ▶ %-*s  %-10s  %s", l.lines.width, Clean(j.Action), j.Code, took(j, now())))
		default:
			waiting = append(waiting, fmt.Sprintf("%-*s  %s", l.lines.width, Clean(j.Action), Clean(j.Message)))
		}
	}
	block := []string{fmt.Sprintf("── %d of %d ended, %d running, %d waiting", ended, total, len(running), len(waiting))}
	block = append(block, few(running, "  ▶ ")...)
	for i, w := range waiting {
		waiting[i] = "  · " + w
	}
	return append(block, few(waiting, "  · ")...)
}

func few(lines []string, mark string) []string {
	if len(lines) <= maxShown {
		return lines
	}
	return append(lines[:maxShown:maxShown], fmt.Sprintf("%s… and %d more", mark, len(lines)-maxShown))
}

// cut shortens a line to the terminal's width, as a wrapped line would break
// the block.
func cut(s string, width int) string {
	runes := []rune(s)
	if width <= 0 || len(runes) <= width {
		return s
	}
	return string(runes[:width])
}
