package messages

import "time"

// An OutcomeKind says what an Outcome tells.
type OutcomeKind string

// Kinds of outcomes, in the order in which a request sees them.
const (
	OutcomeAccepted OutcomeKind = "accepted" // planned: Jobs has each job, Reasons the warnings
	OutcomeRejected OutcomeKind = "rejected" // no job was made: Code and Reasons say why
	OutcomeJob      OutcomeKind = "job"      // one job changed its code
	OutcomeFinished OutcomeKind = "finished" // all jobs have ended: Jobs has each
)

// An Outcome tells the job server what became of a request. It crosses to the
// outside: it carries states, codes, counts and fixed sentences, and nothing
// that a study's code could have chosen (I7).
type Outcome struct {
	Envelope
	Kind      OutcomeKind  `json:"kind"`
	Request   RequestID    `json:"request"`
	Backend   string       `json:"backend"`
	Workspace string       `json:"workspace"`
	Source    *Source      `json:"source,omitempty"` // what was asked for, where there is a plan
	Code      Code         `json:"code,omitempty"`   // of a rejection
	Reasons   []string     `json:"reasons,omitempty"`
	Job       *JobOutcome  `json:"job,omitempty"`
	Jobs      []JobOutcome `json:"jobs,omitempty"`
	More      int          `json:"more_jobs,omitempty"` // that Jobs has no room for; each is told by itself
	At        time.Time    `json:"at"`
}

// A JobOutcome is what a job server may know of a job.
type JobOutcome struct {
	Job       JobID      `json:"id"`
	Action    string     `json:"action"` // from the project file, which is public
	State     State      `json:"state"`
	Code      Code       `json:"code"`
	Message   string     `json:"message"` // a fixed sentence
	Attempt   int        `json:"attempt,omitempty"`
	Reused    bool       `json:"reused,omitempty"` // made by an earlier request
	Why       PlanWhy    `json:"why,omitempty"`
	Run       string     `json:"run_command,omitempty"`        // from the project file; in lists of jobs only
	Database  bool       `json:"requires_db,omitempty"`        // in lists of jobs only
	Files     int        `json:"files,omitempty"`              // matched
	Unmatched int        `json:"unmatched_patterns,omitempty"` // how many
	Withheld  int        `json:"withheld_files,omitempty"`     // how many
	Disclosed *Disclosed `json:"disclosed,omitempty"`          // more, where the backend's setting allows it
	Created   time.Time  `json:"created_at"`
	Started   time.Time  `json:"started_at,omitzero"`
	Completed time.Time  `json:"completed_at,omitzero"`
	Updated   time.Time  `json:"updated_at"`
}

// Validate reports every rule that the outcome breaks.
func (o *Outcome) Validate() error {
	var p Problems
	p.add(o.Request.Check())
	p.add(CheckBackend(o.Backend))
	switch o.Kind {
	case OutcomeAccepted, OutcomeRejected, OutcomeFinished:
	case OutcomeJob:
		if o.Job == nil {
			p.addf("an outcome of a job needs the job")
		}
	default:
		p.addf("%s is not a kind of outcome", Quote(string(o.Kind)))
	}
	p.text("workspace", o.Workspace, MaxNameLength)
	p.text("code", string(o.Code), maxWord)
	p.texts("reasons", o.Reasons, maxReasons, MaxReason)
	p.when("at", o.At)
	if o.Source != nil {
		p.add(o.Source.problems().Err())
	}
	p.count("jobs", len(o.Jobs), maxEntries)
	if o.Job != nil {
		p.add(o.Job.check())
	}
	for i := range o.Jobs[:min(len(o.Jobs), maxEntries)] {
		if p.add(o.Jobs[i].check()); len(p) > maxReasons {
			break
		}
	}
	return p.Err()
}

func (j *JobOutcome) check() error {
	var p Problems
	p.text("id of a job", string(j.Job), maxWord)
	p.text("action", j.Action, MaxActionLength)
	p.text("state", string(j.State), maxWord)
	p.text("code", string(j.Code), maxWord)
	p.text("message", j.Message, MaxReason)
	p.text("why", string(j.Why), maxWord)
	p.text("run_command", j.Run, MaxReason)
	for _, at := range []time.Time{j.Created, j.Started, j.Completed, j.Updated} {
		p.when("time of a job", at)
	}
	if d := j.Disclosed; d != nil {
		p.text("message", d.Message, MaxReason)
		p.texts("unmatched_patterns", d.Unmatched, MaxResultPatterns, MaxResult)
		p.count("unmatched_files", len(d.Leftover), MaxResultFiles)
		p.count("withheld", len(d.Withheld), MaxResultFiles)
		for _, path := range d.Leftover[:min(len(d.Leftover), MaxResultFiles)] {
			p.text("an unmatched file", string(path), MaxPath)
		}
		for _, f := range d.Withheld[:min(len(d.Withheld), MaxResultFiles)] {
			p.text("a withheld file", string(f.Path), MaxPath)
			p.text("why a file is withheld", f.Reason, MaxReason)
		}
		if d.Metrics != nil {
			p.add(d.Metrics.Validate())
		}
	}
	return p.Err()
}

// A Disclosed is what the disclosure of a backend's setting adds to an outcome.
// Its lists are bounded as those of a Result are.
type Disclosed struct {
	ExitCode  *int          `json:"exit_code,omitempty"`
	Message   string        `json:"message,omitempty"` // the sentence that people inside read
	Unmatched []string      `json:"unmatched_patterns,omitempty"`
	Leftover  []Path        `json:"unmatched_files,omitempty"`
	Withheld  []FileProblem `json:"withheld,omitempty"`
	Metrics   *Metrics      `json:"metrics,omitempty"`
}

// Outside returns what a job server may know of the job: counts and codes, and
// what the disclosure of the backend's setting lists (I7).
func (j *Job) Outside(disclosure []string) JobOutcome {
	out := JobOutcome{
		Job: j.ID, Action: j.Action, State: j.State, Code: j.Code, Message: j.Code.Message(), Attempt: j.Attempt,
		Created: j.Created, Started: j.Started, Completed: j.Completed, Updated: j.Updated,
	}
	if r := j.Result; r != nil {
		out.Files, out.Unmatched, out.Withheld = r.Files, len(r.Unmatched), r.Withhelds
		if len(disclosure) > 0 {
			out.Disclosed = j.disclosed(disclosure)
		}
	}
	return out
}

func (j *Job) disclosed(list []string) *Disclosed {
	d := &Disclosed{}
	for _, what := range list {
		switch what {
		case DiscloseExitCode:
			d.ExitCode, d.Message = &j.Result.ExitCode, j.Message
		case DisclosePatterns:
			for _, u := range j.Result.Unmatched {
				d.Unmatched = append(d.Unmatched, u.Pattern)
			}
		case DiscloseFiles:
			d.Leftover, d.Withheld = j.Result.Leftover, j.Result.Withheld
		case DiscloseMetrics:
			d.Metrics = j.Result.Metrics
		}
	}
	return d
}
