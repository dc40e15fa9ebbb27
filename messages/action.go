package messages

// An Action is the dispatch of one attempt to a worker: all that it needs to
// run, and no secret. The worker claims the lease of the attempt before it
// does anything (I4).
type Action struct {
	Envelope
	Job       JobID     `json:"job"`
	Attempt   int       `json:"attempt"` // from 1
	Request   RequestID `json:"request"`
	Backend   string    `json:"backend"`
	Pool      string    `json:"pool"`
	Workspace string    `json:"workspace"`
	Name      string    `json:"action"` // as the project spells it
	Source
	Image    string   `json:"image"` // name:version, as the project writes it
	Digest   string   `json:"image_digest,omitempty"`
	Args     []string `json:"args,omitempty"`
	Env      []EnvVar `json:"env,omitempty"`
	Database bool     `json:"database,omitempty"`
	Dataset  string   `json:"dataset,omitempty"`
	Weight   float64  `json:"weight"`
	Inputs   []Input  `json:"inputs,omitempty"`
	Patterns []string `json:"patterns,omitempty"` // of the whole project; only for a WorkingFolder, whose outputs are not code
	Limits   Limits   `json:"limits"`
	Hard     bool     `json:"hard,omitempty"` // the pool has a hard limit: stop when no renewal is confirmed for a whole TTL
}

// Validate reports every rule that the action breaks.
func (a *Action) Validate() error {
	var p Problems
	p.add(checkAttempt(a.Backend, a.Workspace, a.Job, a.Attempt))
	p.add(a.Request.Check())
	p.add(CheckPool(a.Pool))
	p.add(CheckAction(a.Name))
	p.add(a.problems().Err())
	if a.Image == "" || len(a.Image) > 1000 || hasControl(a.Image) {
		p.addf("image %s is not the name of an image", Quote(a.Image))
	}
	if a.Digest != "" {
		p.add(CheckDigest(a.Digest))
	}
	if !(a.Weight > 0) {
		p.addf("weight %v is not above zero", a.Weight)
	}
	for _, in := range a.Inputs {
		p.add(in.Job.Check())
		p.add(CheckAction(in.Action))
	}
	return p.Err()
}

func checkAttempt(backend, workspace string, job JobID, attempt int) error {
	var p Problems
	p.add(CheckBackend(backend))
	p.add(CheckWorkspace(workspace))
	p.add(job.Check())
	if attempt < 1 || attempt > 1_000_000 {
		p.addf("attempt %d is out of range", attempt)
	}
	return p.Err()
}
