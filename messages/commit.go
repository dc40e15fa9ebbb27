package messages

import (
	"encoding/json"
	"time"
)

// A Commit says whose files are a job's, for ever: one attempt's, or nobody's
// (a tombstone). It is created once; the first wins, over the attempt counter
// too. Its creation is the point at which a job's outcome is decided (I2, I3).
type Commit struct {
	Envelope
	Job      JobID     `json:"job"`
	Attempt  int       `json:"attempt,omitempty"`  // 0 in a tombstone
	Manifest string    `json:"manifest,omitempty"` // digest of the job's manifest
	Result   *Result   `json:"result,omitempty"`
	Code     Code      `json:"code,omitempty"` // of a tombstone: how the job ended
	At       time.Time `json:"at"`
}

// Tombstone reports whether no attempt's files will ever be the job's.
func (c *Commit) Tombstone() bool { return c.Attempt == 0 }

// Validate reports every rule that the commit breaks.
func (c *Commit) Validate() error {
	var p Problems
	p.add(c.Job.Check())
	switch {
	case c.Attempt < 0:
		p.addf("attempt %d is below zero", c.Attempt)
	case c.Tombstone() && !c.Code.Final():
		p.addf("a tombstone needs a final code, not %s", Quote(string(c.Code)))
	case !c.Tombstone() && (c.Result == nil || c.Manifest == ""):
		p.addf("a commit needs a result and a manifest")
	}
	if c.Manifest != "" {
		p.add(CheckDigest(c.Manifest))
	}
	if c.Result != nil {
		p.add(c.Result.check())
	}
	p.text("code", string(c.Code), maxWord)
	p.when("at", c.At)
	return p.Err()
}

// Bounds of the lists in a Result; what is beyond is only counted.
const (
	MaxResultPatterns = 100
	MaxResultFiles    = 20
)

// MaxResult bounds an encoded Result, in bytes: it becomes part of the job's
// record, where there is as much room beside what was planned.
const MaxResult = 128 << 10

// A Result is what an attempt came to, as the persister found it. It stays
// inside: it holds names that a study's code chose.
type Result struct {
	ExitCode    int           `json:"exit_code"`
	OOMKilled   bool          `json:"oom_killed,omitempty"` // a process of the action ran out of memory, whatever the exit code
	TimedOut    bool          `json:"timed_out,omitempty"`
	Reason      string        `json:"reason,omitempty"` // why the worker stopped the container, if it did
	Started     time.Time     `json:"started_at"`
	Finished    time.Time     `json:"finished_at"`
	Worker      string        `json:"worker"`
	ImageDigest string        `json:"image_digest,omitempty"`
	Files       int           `json:"files"`    // matched, whatever became of them
	Bytes       int64         `json:"bytes"`    // of them
	Moderate    int           `json:"moderate"` // of them in the moderately sensitive tier
	LogBytes    int64         `json:"log_bytes"`
	Metrics     *Metrics      `json:"metrics,omitempty"`
	Unmatched   []Unmatched   `json:"unmatched_patterns,omitempty"`
	Leftover    []Path        `json:"unmatched_files,omitempty"`
	Leftovers   int           `json:"unmatched_file_count,omitempty"`
	Withheld    []FileProblem `json:"withheld,omitempty"` // kept out of the moderately sensitive tier
	Withhelds   int           `json:"withheld_count,omitempty"`
	Refused     []FileProblem `json:"refused,omitempty"` // not regular files: never copied
	Refuseds    int           `json:"refused_count,omitempty"`
	Raised      []Path        `json:"raised,omitempty"` // matched by rules of two tiers: the more protected won
	Raiseds     int           `json:"raised_count,omitempty"`
}

// An Unmatched is a pattern that no new file matches, with the likeliest files
// that were meant.
type Unmatched struct {
	Pattern string `json:"pattern"`
	Nearest []Path `json:"nearest,omitempty"`
	Old     bool   `json:"old,omitempty"` // only files that the action was given match
}

// A FileProblem says what is wrong with a file.
type FileProblem struct {
	Path   Path   `json:"path"`
	Reason string `json:"reason"`
}

// check reports every rule that the result breaks.
func (r *Result) check() error {
	var p Problems
	p.text("reason", r.Reason, MaxReason)
	p.text("worker", r.Worker, maxWord)
	p.text("image_digest", r.ImageDigest, maxWord)
	p.when("started_at", r.Started)
	p.when("finished_at", r.Finished)
	if r.Metrics != nil {
		p.add(r.Metrics.Validate())
	}
	p.count("unmatched_patterns", len(r.Unmatched), MaxResultPatterns)
	p.count("unmatched_files", len(r.Leftover), MaxResultFiles)
	p.count("withheld", len(r.Withheld), MaxResultFiles)
	p.count("refused", len(r.Refused), MaxResultFiles)
	p.count("raised", len(r.Raised), MaxResultFiles)
	switch data, err := json.Marshal(r); {
	case err != nil:
		p.addf("the result: %v", err)
	case len(data) > MaxResult: // whichever name it is that is too long
		p.addf("the result is %d bytes long; the limit is %d", len(data), MaxResult)
	}
	return p.Err()
}

// Code returns how a job with this result ends, the most telling reason first.
func (r *Result) Code() Code {
	switch {
	case r.TimedOut:
		return TimedOut
	case r.ExitCode != 0 && r.OOMKilled:
		return OutOfMemory
	case r.ExitCode != 0:
		return NonzeroExit
	case len(r.Unmatched) > 0:
		return UnmatchedPatterns
	}
	return Success
}
