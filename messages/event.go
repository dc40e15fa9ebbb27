package messages

import "time"

// A Stage is a step of an attempt that a worker reports. Reports are hints:
// they move a job's code, never its outcome.
type Stage string

// Stages of an attempt.
const (
	StageClaimed    Stage = "claimed"
	StagePreparing  Stage = "preparing"
	StagePrepared   Stage = "prepared"
	StageExecuting  Stage = "executing"
	StageExecuted   Stage = "executed"
	StageFinalizing Stage = "finalizing" // files published: the slot is free
	StageStopped    Stage = "stopped"    // stopped on request, the container is gone: the slot is free
	StageErrored    Stage = "errored"    // our own fault: the planner decides on another attempt
	StageRefused    Stage = "refused"    // cannot be run as written: the job ends with Code
)

// Code returns the job code that a stage stands for, or "" for one that is an
// end of the attempt.
func (s Stage) Code() Code {
	switch s {
	case StageClaimed, StagePreparing:
		return Preparing
	case StagePrepared:
		return Prepared
	case StageExecuting:
		return Executing
	case StageExecuted:
		return Executed
	case StageFinalizing:
		return Finalizing
	}
	return ""
}

// Frees reports whether the attempt takes up no slot after this stage.
func (s Stage) Frees() bool {
	switch s {
	case StageFinalizing, StageStopped, StageErrored, StageRefused:
		return true
	}
	return false
}

// A WorkerEvent reports a stage of an attempt. It stays inside.
type WorkerEvent struct {
	Envelope
	Job       JobID     `json:"job"`
	Attempt   int       `json:"attempt"`
	Backend   string    `json:"backend"`
	Workspace string    `json:"workspace"`
	Worker    string    `json:"worker"`
	Stage     Stage     `json:"stage"`
	Code      Code      `json:"code,omitempty"`   // of a refused attempt
	Reason    string    `json:"reason,omitempty"` // of an error or a refusal
	At        time.Time `json:"at"`
}

// Validate reports every rule that the event breaks.
func (e *WorkerEvent) Validate() error {
	var p Problems
	p.add(checkAttempt(e.Backend, e.Workspace, e.Job, e.Attempt))
	p.add(CheckWorker(e.Worker))
	if e.Stage.Code() == "" && !e.Stage.Frees() {
		p.addf("%s is not a stage", Quote(string(e.Stage)))
	}
	if e.Stage == StageRefused && !e.Code.Final() {
		p.addf("a refusal needs a final code, not %s", Quote(string(e.Code)))
	}
	p.text("code", string(e.Code), maxWord)
	p.text("reason", e.Reason, MaxReason)
	p.when("at", e.At)
	return p.Err()
}

// A Verdict is what the persister made of an attempt's files.
type Verdict string

// Verdicts.
const (
	Persisted Verdict = "persisted" // the commit's files are visible
	Discarded Verdict = "discarded" // another attempt, or a tombstone, has the commit; the log is kept
	Unusable  Verdict = "unusable"  // files are missing or not as listed: our own fault, another attempt may do better
)

// A PersisterEvent reports what became of an attempt's files. The planner
// checks it against the commit, whose word alone counts.
type PersisterEvent struct {
	Envelope
	Job       JobID     `json:"job"`
	Attempt   int       `json:"attempt"`             // whose files message this answers
	Winner    int       `json:"committed,omitempty"` // the attempt that has the commit; 0 for none or a tombstone
	Backend   string    `json:"backend"`
	Workspace string    `json:"workspace"`
	Verdict   Verdict   `json:"verdict"`
	Reason    string    `json:"reason,omitempty"`
	At        time.Time `json:"at"`
}

// Validate reports every rule that the event breaks.
func (e *PersisterEvent) Validate() error {
	var p Problems
	p.add(checkAttempt(e.Backend, e.Workspace, e.Job, e.Attempt))
	switch e.Verdict {
	case Persisted, Discarded, Unusable:
	default:
		p.addf("%s is not a verdict", Quote(string(e.Verdict)))
	}
	p.text("reason", e.Reason, MaxReason)
	p.when("at", e.At)
	return p.Err()
}

// A Control is the fast path of a stop or a drain. It may be lost: the lease
// and the fleet register are the truth.
type Control struct {
	Envelope
	Kind    ControlKind `json:"kind"`
	Job     JobID       `json:"job,omitempty"`
	Attempt int         `json:"attempt,omitempty"`
	Reason  string      `json:"reason,omitempty"`
}

// A ControlKind says what is asked of a worker.
type ControlKind string

// Kinds of control messages.
const (
	ControlStop  ControlKind = "stop"  // look at the lease of this attempt, now
	ControlDrain ControlKind = "drain" // take no more actions
	ControlOpen  ControlKind = "open"  // take actions again
)

// Validate reports every rule that the control message breaks.
func (c *Control) Validate() error {
	var p Problems
	switch c.Kind {
	case ControlStop:
		p.add(c.Job.Check())
	case ControlDrain, ControlOpen:
	default:
		p.addf("%s is not a kind of control message", Quote(string(c.Kind)))
	}
	p.text("job", string(c.Job), maxWord)
	p.text("reason", c.Reason, MaxReason)
	return p.Err()
}
