package messages

import (
	"fmt"
	"slices"
	"time"
)

// A Job is the planner's record of one action of one request: what was planned,
// how far it is, how it ended. Only the planner writes it (I1), and the
// persister believes its rules and no message's (I6).
type Job struct {
	Envelope
	ID        JobID     `json:"id"`
	Request   RequestID `json:"request"`
	Backend   string    `json:"backend"`
	Workspace string    `json:"workspace"`
	Action    string    `json:"action"` // as the project spells it

	// The plan. It never changes.
	Source
	Reuses   *Source   `json:"reuses,omitempty"` // a reusable action's code, which runs in place of the study's
	Pool     string    `json:"pool"`
	Weight   float64   `json:"weight"` // slots that it takes
	Database bool      `json:"database,omitempty"`
	Dataset  string    `json:"dataset,omitempty"` // which database, for database actions
	Run      string    `json:"run"`               // as the project writes it
	Image    string    `json:"image"`
	Digest   string    `json:"image_digest,omitempty"` // what Image stood for when the job was planned; empty: what it stands for when an attempt starts
	Args     []string  `json:"args,omitempty"`
	Needs    []string  `json:"needs,omitempty"`    // actions, in the project's order
	WaitFor  []JobID   `json:"wait_for,omitempty"` // jobs that had not ended when this one was planned
	Rules    []Rule    `json:"rules"`
	Limits   Limits    `json:"limits"`
	Env      []EnvVar  `json:"env,omitempty"` // never a secret
	By       string    `json:"created_by,omitempty"`
	Project  string    `json:"project,omitempty"`
	Created  time.Time `json:"created_at"`

	// The state.
	State     State     `json:"state"`
	Code      Code      `json:"code"`
	Message   string    `json:"message"` // for people inside
	Wanted    Code      `json:"wanted,omitempty"`
	Attempt   int       `json:"attempt"` // the newest; 0 before the first
	Inputs    []Input   `json:"inputs,omitempty"`
	Worker    string    `json:"worker,omitempty"`
	Updated   time.Time `json:"updated_at"`
	Started   time.Time `json:"started_at,omitzero"`
	Completed time.Time `json:"completed_at,omitzero"`
	Lost      []Loss    `json:"lost,omitempty"` // attempts that our own faults ended
	Result    *Result   `json:"result,omitempty"`
	Manifest  string    `json:"manifest,omitempty"` // digest of the files that became visible
}

// A Rule names a pattern of files under a tier.
type Rule struct {
	Tier    Tier   `json:"tier"`
	Name    string `json:"name"`
	Pattern string `json:"pattern"`
}

// An EnvVar is a variable of a container's environment.
type EnvVar struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// An Input is a job whose outputs another one reads.
type Input struct {
	Action   string    `json:"action"`
	Job      JobID     `json:"job"`
	Created  time.Time `json:"created_at"` // of the job: the month names the folder of its record
	Manifest string    `json:"manifest"`   // digest, from the commit
}

// Limits bound an attempt. Zero means the worker's own setting.
type Limits struct {
	CPUs      float64       `json:"cpus,omitempty"`
	Memory    int64         `json:"memory,omitempty"`     // bytes
	Processes int64         `json:"processes,omitempty"`  // at once
	Disk      int64         `json:"disk,omitempty"`       // bytes written to staging
	Time      time.Duration `json:"time_limit,omitempty"` // nanoseconds
}

// A Loss is an attempt that ended by our own fault.
type Loss struct {
	Attempt int       `json:"attempt"`
	Worker  string    `json:"worker,omitempty"`
	Reason  string    `json:"reason"`
	At      time.Time `json:"at"`
}

// Set moves the job to a code, or reports that the table forbids it. An empty
// message stands for the code's own.
func (j *Job) Set(code Code, message string, now time.Time) error {
	if !CanMove(j.Code, code) {
		return fmt.Errorf("job %s cannot go from %s to %s: %w", j.ID, j.Code, code, ErrInvalid)
	}
	j.force(code, message, now)
	return nil
}

func (j *Job) force(code Code, message string, now time.Time) {
	if message == "" {
		message = code.Message()
	}
	j.Touch(now)
	now = j.Updated
	j.State, j.Code, j.Message = code.State(), code, message
	switch {
	case j.State == Running && j.Started.IsZero():
		j.Started = now
	case j.State == Pending:
		j.Started = time.Time{}
	case j.State.Final():
		j.Completed = now
	}
}

// Touch notes when the record was changed. Its times never go back, though
// another planner's clock may be behind: readers tell what is newer by them.
func (j *Job) Touch(now time.Time) {
	if now.After(j.Updated) {
		j.Updated = now
	}
}

// Runs returns the source whose code the job runs.
func (j *Job) Runs() Source {
	if j.Reuses != nil {
		return *j.Reuses
	}
	return j.Source
}

// Validate reports every rule that the record breaks.
func (j *Job) Validate() error {
	var p Problems
	p.add(j.ID.Check())
	p.add(j.Request.Check())
	p.add(CheckBackend(j.Backend))
	p.add(CheckWorkspace(j.Workspace))
	p.add(CheckAction(j.Action))
	p.add(CheckPool(j.Pool))
	p.add(j.Code.Check())
	if j.ID.Check() == nil && j.ID != NewJobID(j.Request, j.Action) {
		p.addf("job id %s is not that of request %s and action %s", j.ID, j.Request, Quote(j.Action))
	}
	if j.Code.State() != j.State {
		p.addf("code %s does not go with state %s", j.Code, j.State)
	}
	if !(j.Weight > 0) {
		p.addf("weight %v is not above zero", j.Weight)
	}
	if j.Attempt < 0 {
		p.addf("attempt %d is below zero", j.Attempt)
	}
	p.add(j.problems().Err()) // what an attempt's Action would break, too
	if j.Reuses != nil {
		p.add(j.Reuses.problems().Err())
	}
	p.add(checkImage(j.Image, j.Digest))
	p.add(j.bounds())
	return p.Err()
}

// bounds reports what is too long, too much or out of time.
func (j *Job) bounds() error {
	var p Problems
	for _, f := range []struct{ name, value string }{
		{"dataset", j.Dataset}, {"created_by", j.By}, {"project", j.Project}, {"worker", j.Worker}, {"wanted", string(j.Wanted)}, {"manifest", j.Manifest},
	} {
		p.text(f.name, f.value, maxWord)
	}
	p.text("run", j.Run, maxText)
	p.texts("args", j.Args, maxEntries, maxText)
	p.texts("needs", j.Needs, maxEntries, MaxActionLength)
	p.count("wait_for", len(j.WaitFor), maxEntries)
	for _, id := range j.WaitFor[:min(len(j.WaitFor), maxEntries)] {
		p.text("a job of wait_for", string(id), maxWord)
	}
	p.environment(j.Env)
	p.text("message", j.Message, MaxReason)
	p.inputs(j.Inputs)
	p.count("rules", len(j.Rules), maxEntries)
	for _, r := range j.Rules[:min(len(j.Rules), maxEntries)] {
		if r.Tier.Protection() == 0 || r.Pattern == "" {
			p.addf("rule %s has no tier or no pattern", Quote(r.Name))
		}
		p.text("the name of a rule", r.Name, maxText)
		p.text("a pattern", r.Pattern, maxText)
	}
	p.count("lost", len(j.Lost), maxLost)
	for _, l := range j.Lost[:min(len(j.Lost), maxLost)] {
		p.text("the worker of a lost attempt", l.Worker, maxWord)
		p.text("the reason of a lost attempt", l.Reason, MaxReason)
		p.when("time of a lost attempt", l.At)
	}
	for _, at := range []time.Time{j.Created, j.Updated, j.Started, j.Completed} {
		p.when("time of the job", at)
	}
	if j.Result != nil {
		p.add(j.Result.check())
	}
	return p.Err()
}

// maxLost bounds the lost attempts of a job: no more are ever begun.
const maxLost = 1000

// A Latest lists an action's newest jobs in a workspace, newest first, those
// that were cancelled left out: what a later request reuses or reads.
type Latest struct {
	Envelope
	Action string  `json:"action"`
	Jobs   []JobID `json:"jobs"`
}

// MaxLatest bounds the jobs that a Latest keeps.
const MaxLatest = 8

// Push puts a job first, Drop takes one out.
func (l *Latest) Push(id JobID) {
	l.Drop(id)
	l.Jobs = slices.Insert(l.Jobs, 0, id)
	l.Jobs = l.Jobs[:min(len(l.Jobs), MaxLatest)]
}

// Drop takes a job out, if it is there.
func (l *Latest) Drop(id JobID) {
	l.Jobs = slices.DeleteFunc(l.Jobs, func(j JobID) bool { return j == id })
}

// Validate reports every rule that the list breaks.
func (l *Latest) Validate() error {
	var p Problems
	p.add(CheckAction(l.Action))
	p.count("jobs", len(l.Jobs), MaxLatest)
	for _, id := range l.Jobs[:min(len(l.Jobs), MaxLatest)] {
		p.add(id.Check())
	}
	return p.Err()
}

// A Plan is the planner's record of a request: what it decided, once. It is
// created before the jobs are, so that a request that is delivered again makes
// the same jobs whatever has happened since.
type Plan struct {
	Envelope
	Request  Request   `json:"request"`
	Code     Code      `json:"code,omitempty"`    // empty: accepted; else why no job was made
	Reasons  []string  `json:"reasons,omitempty"` // every reason of a rejection
	Jobs     []Planned `json:"jobs,omitempty"`    // in the order of creation
	Actions  []string  `json:"actions,omitempty"` // all of the project's at that commit, in file order
	Warnings []string  `json:"warnings,omitempty"`
	Created  time.Time `json:"created_at"`
	Waiting  string    `json:"waiting,omitempty"`  // why nothing is decided yet, for people inside: the project file cannot be had
	Cancel   *Cancel   `json:"cancel,omitempty"`   // came before all of its jobs were written: they end with it
	Done     bool      `json:"done,omitempty"`     // all of its jobs are written
	Finished bool      `json:"finished,omitempty"` // all of its jobs have ended, and the job server was told
}

// A Planned is what was decided about one action, and why.
type Planned struct {
	Action string   `json:"action"`
	Job    JobID    `json:"job,omitempty"` // new or reused
	Reused bool     `json:"reused,omitempty"`
	Why    PlanWhy  `json:"why"`
	Wait   []JobID  `json:"wait_for,omitempty"`
	Needs  []string `json:"-"`
}

// PlanWhy says why an action runs, or why not. A closed list.
type PlanWhy string

// Reasons to run, then reasons not to.
const (
	WhyAsked     PlanWhy = "asked"       // named in the request
	WhyNeeded    PlanWhy = "needed"      // needed, and has never succeeded here
	WhyForced    PlanWhy = "forced"      // force_run_dependencies
	WhyFailed    PlanWhy = "failed"      // its last job failed
	WhyMissing   PlanWhy = "missing"     // an output of its last job is gone (`sluice run`)
	WhyChanged   PlanWhy = "changed"     // it is written in another way than its last job (`sluice run`)
	WhySucceeded PlanWhy = "succeeded"   // has succeeded already
	WhyActive    PlanWhy = "in_progress" // a job of it is pending or running
)

// Validate reports every rule that the plan breaks.
func (pl *Plan) Validate() error {
	var p Problems
	p.add(pl.Request.Validate())
	p.text("code", string(pl.Code), maxWord)
	p.texts("reasons", pl.Reasons, maxReasons, MaxReason)
	p.texts("warnings", pl.Warnings, maxReasons, MaxReason)
	p.texts("actions", pl.Actions, maxEntries, MaxActionLength)
	p.text("waiting", pl.Waiting, MaxReason)
	p.when("created_at", pl.Created)
	if pl.Cancel != nil {
		p.add(pl.Cancel.Validate())
	}
	p.count("jobs", len(pl.Jobs), maxEntries)
	for _, j := range pl.Jobs[:min(len(pl.Jobs), maxEntries)] {
		p.add(CheckAction(j.Action))
		p.add(j.Job.Check())
		p.text("why", string(j.Why), maxWord)
		p.count("wait_for", len(j.Wait), maxEntries)
		for _, id := range j.Wait[:min(len(j.Wait), maxEntries)] {
			p.text("a job of wait_for", string(id), maxWord)
		}
	}
	return p.Err()
}
