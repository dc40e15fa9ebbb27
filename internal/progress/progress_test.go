package progress_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/internal/progress"
	"sluice/messages"
)

var at = time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)

func job(action string, code messages.Code) *messages.Job {
	return &messages.Job{
		ID: messages.NewJobID("r", action), Action: action, State: code.State(), Code: code, Message: code.Message(), Attempt: 1,
		Created: at, Started: at, Updated: at.Add(time.Second), Completed: at.Add(time.Second), Result: &messages.Result{Files: 2, Bytes: 2048},
	}
}

func story() (*messages.Plan, []*messages.Job) {
	failed := job("plot", messages.UnmatchedPatterns)
	failed.Result = &messages.Result{
		Unmatched: []messages.Unmatched{{Pattern: "output/plto.svg", Nearest: []messages.Path{"output/plot.svg"}}},
		Leftover:  []messages.Path{"output/plot.svg", "out\x1b[2J.csv"}, Leftovers: 3,
	}
	jobs := []*messages.Job{job("extract", messages.Success), failed, job("report", messages.DependencyFailed)}
	plan := &messages.Plan{Warnings: []string{"old\x1b[31m"}}
	for _, j := range jobs {
		plan.Jobs = append(plan.Jobs, messages.Planned{Action: j.Action, Job: j.ID, Why: messages.WhyNeeded})
	}
	plan.Jobs[0].Reused, plan.Jobs[0].Why = true, messages.WhySucceeded
	return plan, jobs
}

// TestPrinters: each says what a reader must know, and none lets a name or a
// message of a study move the cursor.
func TestPrinters(t *testing.T) {
	t.Parallel()
	for name, printer := range map[string]func(*bytes.Buffer) progress.Printer{
		"lines": func(b *bytes.Buffer) progress.Printer { return &progress.Lines{W: b, GitHub: true} },
		"live": func(b *bytes.Buffer) progress.Printer {
			return progress.NewLive(b, false, func() int { return 200 })
		},
		"json": func(b *bytes.Buffer) progress.Printer { return progress.JSON{W: b} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			p := printer(&out)
			plan, jobs := story()
			p.Planned(plan)
			for _, j := range jobs {
				p.Changed(j)
			}
			p.Ended(progress.Summary{
				Plan: plan, Jobs: jobs, Took: time.Second, Folders: []progress.Folder{{What: "outputs", Path: "/study"}},
				Tail: func(*messages.Job) []string { return []string{"the last line\x1b[0m"} },
			})
			for _, want := range []string{"extract", "plot", "unmatched_patterns", "output/plto.svg", "output/plot.svg", "dependency_failed", "/study"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("output has no %q:\n%s", want, out.String())
				}
			}
			if text := out.String(); strings.Contains(text, "\x1b[2J") || strings.Contains(text, "\x1b[31m") || strings.Contains(text, "\x1b[0m") {
				t.Errorf("output has a study's own control characters: %q", text)
			}
		})
	}
}

func TestFailed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code              messages.Code
		failed, cancelled bool
	}{{messages.Success, false, false}, {messages.NonzeroExit, true, false}, {messages.CancelledByUser, false, true}} {
		failed, cancelled := progress.Summary{Jobs: []*messages.Job{job("a", tc.code)}}.Failed()
		if failed != tc.failed || cancelled != tc.cancelled {
			t.Errorf("Failed of %s = %v, %v", tc.code, failed, cancelled)
		}
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		for _, r := range progress.Clean(rapid.String().Draw(t, "s")) {
			if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e {
				t.Fatalf("Clean let %U through", r)
			}
		}
	})
}

func TestWords(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{1500 * time.Millisecond: "1.5s", 42 * time.Second: "42s", 62 * time.Second: "1m02s", 3*time.Hour + time.Minute: "3h01m"} {
		if got := progress.Took(d); got != want {
			t.Errorf("Took(%s) = %q, want %q", d, got, want)
		}
	}
	for n, want := range map[int64]string{5: "5 B", 2048: "2.0 KiB", 3 << 20: "3.0 MiB", 5 << 30: "5.0 GiB"} {
		if got := progress.Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}
