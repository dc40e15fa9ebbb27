package messages

import (
	"fmt"
	"strings"
)

// WorkingFolder stands for the commit of a source that is a folder as it lies
// on the disk. Only `sluice run` makes such requests; a fleet refuses them.
const WorkingFolder = "working-folder"

// MaxRequestedActions bounds the actions that one request may name.
const MaxRequestedActions = 10_000

// MaxRequestBytes bounds a request's payload. The queue takes
// whatever the server does, so that a publisher which does not listen to the
// server learns of one that is too large as of every other fault: it is
// rejected.
const MaxRequestBytes = 256 << 10

// RunAll, asked for as an action, means every action of the project.
const RunAll = "run_all"

// A Source is the code of a study: a commit of a repository.
type Source struct {
	Repo   string `json:"repo"`             // https URL; a path where the backend allows local repositories
	Branch string `json:"branch,omitempty"` // the branch that must contain the commit
	Commit string `json:"commit"`           // 40 hexadecimal digits, or WorkingFolder
}

func (s Source) problems() (p Problems) {
	switch {
	case s.Repo == "":
		p.addf("the request has no repo")
	case len(s.Repo) > 2000:
		p.addf("repo is %d bytes long; the limit is 2000", len(s.Repo))
	case strings.HasPrefix(s.Repo, "-") || hasControl(s.Repo):
		p.addf("repo %s is not a repository URL", Quote(s.Repo))
	}
	if len(s.Branch) > 500 || strings.HasPrefix(s.Branch, "-") || hasControl(s.Branch) {
		p.addf("branch %s is not the name of a branch", Quote(s.Branch))
	}
	if s.Commit != WorkingFolder && (len(s.Commit) != 40 || strings.Trim(s.Commit, "0123456789abcdef") != "") {
		p.addf("commit %s is not 40 lower-case hexadecimal digits", Quote(s.Commit))
	}
	return p
}

// A Request asks for actions of a repository, at a commit, in a workspace, on a
// backend. Repeating it changes nothing.
type Request struct {
	Envelope
	ID        RequestID `json:"id"`
	Backend   string    `json:"backend"`
	Workspace string    `json:"workspace"`
	Source
	Database             string         `json:"database,omitempty"` // which database, "default" if empty
	Actions              []string       `json:"actions"`            // names; RunAll for every action
	ForceRunDependencies bool           `json:"force_run_dependencies,omitempty"`
	CodelistsOK          *bool          `json:"codelists_ok,omitempty"` // absent means true
	CreatedBy            string         `json:"created_by,omitempty"`
	Project              string         `json:"project,omitempty"` // the job server's name for the study
	Orgs                 []string       `json:"orgs,omitempty"`
	AnalysisScope        *AnalysisScope `json:"analysis_scope,omitempty"`
}

// An AnalysisScope is what the study is permitted to use, as the job server
// decided. It is handed to database actions.
type AnalysisScope struct {
	DatasetPermissions    []string `json:"dataset_permissions,omitempty"`
	PopulationPermissions []string `json:"population_permissions,omitempty"`
	ComponentAccess       []string `json:"component_access,omitempty"`
}

// StaleCodelists reports whether the job server said that codelists are out of date.
func (r *Request) StaleCodelists() bool { return r.CodelistsOK != nil && !*r.CodelistsOK }

// Validate reports every rule that the request breaks.
func (r *Request) Validate() error {
	var p Problems
	p.add(r.ID.Check())
	p.add(CheckBackend(r.Backend))
	p.add(CheckWorkspace(r.Workspace))
	p.add(r.problems().Err())
	p.add(checkActions(r.Actions))
	if len(r.Actions) == 0 {
		p.addf("At least one action must be supplied")
	}
	for _, f := range []struct{ name, value string }{
		{"database", r.Database}, {"created_by", r.CreatedBy}, {"project", r.Project},
	} {
		if len(f.value) > 500 || hasControl(f.value) {
			p.addf("%s %s is too long or has control characters", f.name, Quote(f.value))
		}
	}
	p.texts("orgs", r.Orgs, 100, maxWord)
	if scope := r.AnalysisScope; scope != nil {
		p.texts("dataset_permissions", scope.DatasetPermissions, 1000, maxWord)
		p.texts("population_permissions", scope.PopulationPermissions, 1000, maxWord)
		p.texts("component_access", scope.ComponentAccess, 1000, maxWord)
	}
	return p.Err()
}

// A Cancel asks for an end of a request's jobs. A job that has ended is left
// as it is (I2).
type Cancel struct {
	Envelope
	Request   RequestID `json:"request"`
	Backend   string    `json:"backend"`
	Workspace string    `json:"workspace"`
	Actions   []string  `json:"actions,omitempty"` // none means all of the request
	By        string    `json:"by,omitempty"`      // who asked, for the record
	Kill      bool      `json:"kill,omitempty"`    // an operator's kill: the jobs end as killed_by_admin
}

// Validate reports every rule that the cancellation breaks.
func (c *Cancel) Validate() error {
	var p Problems
	p.add(c.Request.Check())
	p.add(CheckBackend(c.Backend))
	p.add(CheckWorkspace(c.Workspace))
	p.add(checkActions(c.Actions))
	if len(c.By) > 500 || hasControl(c.By) {
		p.addf("by %s is too long or has control characters", Quote(c.By))
	}
	return p.Err()
}

func checkActions(names []string) error {
	var p Problems
	if len(names) > MaxRequestedActions {
		return fmt.Errorf("%d actions are named; the limit is %d", len(names), MaxRequestedActions)
	}
	for _, name := range names {
		p.add(CheckAction(name))
	}
	return p.Err()
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
