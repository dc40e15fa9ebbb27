package messages

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Setting is what operators have set for a backend. A missing one is the
// zero value. Its writers change it by compare-and-set, each what it is about.
type Setting struct {
	Envelope
	Paused      *Switch            `json:"paused,omitempty"`
	Maintenance *Switch            `json:"db_maintenance,omitempty"`
	Reboot      *Switch            `json:"reboot,omitempty"`
	Drain       []string           `json:"drain,omitempty"`       // workers that must take nothing
	Limits      map[string]float64 `json:"pool_limits,omitempty"` // slots of a pool on the whole backend, however many workers
	JobLimits   Limits             `json:"job_limits,omitzero"`   // of each attempt of jobs planned from now on; zero means what the planner and the worker have
	Weights     []Weight           `json:"weights,omitempty"`     // of jobs planned from now on; these come before the planner's own
	Disclosure  []string           `json:"disclosure,omitempty"`  // what outcomes may tell beyond counts and codes
}

// A Switch is an operator's flag that is on.
type Switch struct {
	Since  time.Time `json:"since"`
	By     string    `json:"by,omitempty"`
	Reason string    `json:"reason,omitempty"`
	Manual bool      `json:"manual,omitempty"` // a person set it: a program that finds things out by itself leaves it on
}

// A Weight says how many slots some jobs of a backend take.
type Weight struct {
	Workspace string  `json:"workspace"` // or DefaultWeights
	Pattern   string  `json:"pattern"`   // regular expression of an action's whole name; under DefaultWeights of its whole run command
	Slots     float64 `json:"slots"`
}

// DefaultWeights is the Workspace of weights that hold where none of the job's
// own workspace does.
const DefaultWeights = "default"

// What an outcome may tell beyond counts and codes, if the setting lists it
// (I7). A study's code chooses, or may choose, each of these.
const (
	DiscloseExitCode = "exit_code" // of the action, and the sentence that goes with it
	DisclosePatterns = "patterns"  // of the project that no file matches
	DiscloseFiles    = "files"     // names of files that no pattern matches, and of withheld ones
	DiscloseMetrics  = "metrics"   // processor and memory that its container used
)

// Disclosures is all that a setting may list.
var Disclosures = []string{DiscloseExitCode, DisclosePatterns, DiscloseFiles, DiscloseMetrics}

// Bounds of a setting's lists.
const (
	maxWeights = 1000
	maxDrain   = 1000
	maxPattern = 10_000 // bytes
)

// Compile returns the pattern as one of the whole text.
func (w Weight) Compile() (*regexp.Regexp, error) {
	if _, err := regexp.Compile(w.Pattern); err != nil { // by itself: `a)|(b` must not slip through the brackets
		return nil, err
	}
	return regexp.Compile(`\A(?:` + w.Pattern + `)\z`)
}

// Validate reports every rule that the setting breaks.
func (s *Setting) Validate() error {
	var p Problems
	p.count("pool_limits", len(s.Limits), maxPools)
	for pool, limit := range s.Limits {
		if len(p) > maxReasons {
			break
		}
		p.add(CheckPool(pool))
		if !(limit > 0) {
			p.addf("the limit of pool %s is %v; it must be above zero (pause the backend instead)", pool, limit)
		}
	}
	l := s.JobLimits
	if !(l.CPUs >= 0) || l.Memory < 0 || l.Processes < 0 || l.Disk < 0 || l.Time < 0 {
		p.addf("a limit of jobs is below zero")
	}
	if len(s.Weights) > maxWeights {
		p.addf("%d weights are set; the limit is %d", len(s.Weights), maxWeights)
	}
	for _, w := range s.Weights {
		if !(w.Slots > 0 && w.Slots <= 1_000_000) {
			p.addf("the weight of %s is %v; it must be above zero", Quote(w.Pattern), w.Slots)
		}
		p.text("workspace of a weight", w.Workspace, MaxNameLength)
		if p.text("pattern of a weight", w.Pattern, maxPattern); len(w.Pattern) > maxPattern {
			continue
		}
		if _, err := w.Compile(); err != nil {
			p.addf("pattern %s: %v", Quote(w.Pattern), err)
		}
	}
	p.count("disclosure", len(s.Disclosure), 10*len(Disclosures))
	for _, d := range s.Disclosure {
		if !slices.Contains(Disclosures, d) {
			p.addf("%s cannot be disclosed; %s can", Quote(d), strings.Join(Disclosures, ", "))
		}
	}
	if len(s.Drain) > maxDrain {
		p.addf("%d workers are drained; the limit is %d", len(s.Drain), maxDrain)
	}
	for _, w := range s.Drain {
		p.add(CheckWorker(w))
	}
	for _, sw := range []*Switch{s.Paused, s.Maintenance, s.Reboot} {
		if sw != nil && (len(sw.By) > 500 || len(sw.Reason) > 500 || hasControl(sw.By) || hasControl(sw.Reason)) {
			p.addf("who set a switch, or why, is too long or has control characters")
		}
		if sw != nil {
			p.when("since", sw.Since)
		}
	}
	return p.Err()
}
