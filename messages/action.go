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
	p.add(checkImage(a.Image, a.Digest))
	if !(a.Weight > 0) {
		p.addf("weight %v is not above zero", a.Weight)
	}
	p.texts("args", a.Args, maxEntries, maxText)
	p.environment(a.Env)
	p.text("dataset", a.Dataset, maxWord)
	p.inputs(a.Inputs)
	p.texts("patterns", a.Patterns, maxEntries, maxText)
	return p.Err()
}

// checkImage reports what is wrong with the name of an image, and with its
// digest if there is one.
func checkImage(name, digest string) error {
	var p Problems
	if name == "" || len(name) > 1000 || hasControl(name) {
		p.addf("image %s is not the name of an image", Quote(name))
	}
	if digest != "" {
		p.add(CheckDigest(digest))
	}
	return p.Err()
}

func (p *Problems) environment(env []EnvVar) {
	p.count("env", len(env), maxEntries)
	for _, v := range env[:min(len(env), maxEntries)] {
		p.text("the name of a variable", v.Name, maxWord)
		p.text("a variable", v.Value, maxText)
	}
}

func (p *Problems) inputs(list []Input) {
	p.count("inputs", len(list), maxEntries)
	for _, in := range list[:min(len(list), maxEntries)] {
		p.add(in.Job.Check())
		p.add(CheckAction(in.Action))
		p.when("created_at of an input", in.Created)
		p.text("manifest of an input", in.Manifest, maxWord)
	}
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
