// Package progress tells people and scripts what becomes of a request: one
// stream of events, printed as lines, as a live terminal, or as JSON.
package progress

import (
	"slices"
	"time"

	"sluice/messages"
)

// A Printer is told, in this order: the plan; each change of a job, and each
// line that the study's actions write where the reader wants those; the end.
type Printer interface {
	Planned(*messages.Plan)
	Changed(*messages.Job)
	Ended(Summary)
}

// A Summary is how a request ended.
type Summary struct {
	Plan    *messages.Plan
	Jobs    []*messages.Job // the request's own and those it reused, in the plan's order
	Folders []Folder
	Tail    func(*messages.Job) []string // the last lines of a job's log, if they can be read here
	LogPath func(*messages.Job) string   // where a job's log is, if it is here
	Took    time.Duration
}

// A Folder is where outputs are.
type Folder struct {
	What string
	Path string
}

// Failed reports whether a job of the request failed, and whether one was
// cancelled.
func (s Summary) Failed() (failed, cancelled bool) {
	for _, j := range s.Jobs {
		switch {
		case j.State != messages.Failed:
		case j.Code == messages.CancelledByUser || j.Code == messages.KilledByAdmin:
			cancelled = true
		default:
			failed = true
		}
	}
	return failed, cancelled
}

// sorted returns the jobs with those that failed by themselves last, where a
// reader looks first.
func (s Summary) sorted() []*messages.Job {
	jobs := slices.Clone(s.Jobs)
	rank := func(j *messages.Job) int {
		switch {
		case j.State == messages.Succeeded:
			return 0
		case j.Code == messages.DependencyFailed, j.Code == messages.CancelledByUser:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(jobs, func(a, b *messages.Job) int { return rank(a) - rank(b) })
	return jobs
}

// why is a reason of the plan in words.
var why = map[messages.PlanWhy]string{
	messages.WhyAsked:     "asked for",
	messages.WhyNeeded:    "needed, and has not succeeded here yet",
	messages.WhyForced:    "dependencies are forced to run",
	messages.WhyFailed:    "failed the last time",
	messages.WhyMissing:   "an output of its last run is gone",
	messages.WhyChanged:   "its run line, needs or outputs have changed",
	messages.WhySucceeded: "has succeeded already",
	messages.WhyActive:    "is waiting or running already",
}

// Why returns a reason of a plan in words.
func Why(w messages.PlanWhy) string {
	if s, ok := why[w]; ok {
		return s
	}
	return string(w)
}
