package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/messages"
)

// A remoteRequest is a request as job servers before the RAP API write it.
type remoteRequest struct {
	Identifier string `json:"identifier"`
	SHA        string `json:"sha"`
	Workspace  struct {
		Name   string `json:"name"`
		Repo   string `json:"repo"`
		Branch string `json:"branch"`
		DB     string `json:"db"`
	} `json:"workspace"`
	Requested []string  `json:"requested_actions"`
	Cancelled []string  `json:"cancelled_actions"`
	Force     bool      `json:"force_run_dependencies"`
	Codelists *bool     `json:"codelists_ok"`
	CreatedBy string    `json:"created_by"`
	CreatedAt time.Time `json:"created_at"`
	Project   string    `json:"project"`
	Orgs      []string  `json:"orgs"`
}

// A remoteJob is a job as they read it.
type remoteJob struct {
	jobStatus
	JobRequest string   `json:"job_request_id"`
	CreatedBy  string   `json:"created_by"`
	Project    string   `json:"project"`
	Orgs       []string `json:"orgs"`
}

// failedAction is the name under which the reference tells of a request that
// has made no job: its job servers hear of jobs only.
const failedAction = "__error__"

// handle publishes what a request asks for that was not asked for yet, and
// returns its jobs.
func (p *poller) handle(ctx context.Context, raw json.RawMessage) ([]remoteJob, error) {
	var r remoteRequest
	if err := json.Unmarshal(raw, &r); err != nil {
		return nil, fmt.Errorf("a request of the job server cannot be read: %w", err)
	}
	n := name{p.poll.Backend, messages.RequestID(r.Identifier)}
	if err := n.id.Check(); err != nil {
		return nil, fmt.Errorf("a request of the job server: %w", err)
	}
	s, err := p.raps.read(ctx, n)
	if err != nil {
		return nil, err
	}
	if s.answer == "" && len(s.jobs) == 0 {
		return p.begin(ctx, n, &r)
	}
	if err := p.withdraw(ctx, n, &r, &s); err != nil {
		return nil, err
	}
	return p.jobs(n, &r, &s), nil
}

// begin publishes a request that nobody has published.
func (p *poller) begin(ctx context.Context, n name, r *remoteRequest) ([]remoteJob, error) {
	if waits, err := p.waits(ctx, n, &seen{}); err != nil || waits {
		return nil, err
	}
	req := &messages.Request{
		ID: n.id, Backend: n.backend, Workspace: r.Workspace.Name, Source: messages.Source{Repo: r.Workspace.Repo, Branch: r.Workspace.Branch, Commit: r.SHA},
		Database: r.Workspace.DB, Actions: r.Requested, ForceRunDependencies: r.Force, CodelistsOK: r.Codelists,
		CreatedBy: r.CreatedBy, Project: r.Project, Orgs: r.Orgs,
	}
	if reasons := unfit(*req); len(reasons) > 0 {
		return p.failure(n, r, "JobRequestError: "+strings.Join(reasons, "\n"), r.CreatedAt), nil
	}
	return nil, p.ports.Outbox.Publish(ctx, req.Subject(), req, "request/"+n.backend+"/"+r.Identifier)
}

// withdraw publishes the cancellation of jobs that have not ended, again after a
// while if they still have not.
func (p *poller) withdraw(ctx context.Context, n name, r *remoteRequest, s *seen) error {
	var actions []string
	now := p.ports.Now()
	for i := range s.jobs {
		j := &s.jobs[i]
		if j.State.Final() {
			delete(p.wanted, j.Job)
			continue
		}
		if slices.Contains(r.Cancelled, j.Action) && now.Sub(p.wanted[j.Job]) >= sayAgain {
			actions = append(actions, j.Action)
			p.wanted[j.Job] = now
		}
	}
	if len(actions) == 0 {
		return nil
	}
	return p.publishCancel(ctx, n, s.workspace, actions)
}

// jobs returns the jobs of a request as the job server reads them; if it has
// none, one that says why.
func (p *poller) jobs(n name, r *remoteRequest, s *seen) []remoteJob {
	var list []remoteJob
	for i := range s.jobs {
		list = append(list, p.remote(r, tell(n, &s.jobs[i])))
	}
	reasons := strings.Join(s.reasons, "\n")
	switch {
	case len(list) > 0:
	case s.answer == messages.OutcomeRejected && s.code == messages.InvalidProject:
		return p.failure(n, r, "ProjectValidationError: Invalid project: \n"+reasons, s.at)
	case s.answer == messages.OutcomeRejected, s.answer == messages.OutcomeFinished && reasons != allDone:
		return p.failure(n, r, "JobRequestError: "+reasons, s.at)
	case s.answer == messages.OutcomeFinished && len(r.Requested) > 0:
		return p.ended(n, r, r.Requested[0], messages.Success, "All actions have already run", s.at)
	}
	return list
}

// allDone is why a request that asks for everything makes no job; it counts as
// having succeeded.
const allDone = "All actions have already completed successfully"

func (p *poller) remote(r *remoteRequest, j jobStatus) remoteJob {
	orgs := r.Orgs
	if orgs == nil {
		orgs = []string{}
	}
	return remoteJob{jobStatus: j, JobRequest: r.Identifier, CreatedBy: r.CreatedBy, Project: r.Project, Orgs: orgs}
}

func (p *poller) failure(n name, r *remoteRequest, why string, when time.Time) []remoteJob {
	return p.ended(n, r, failedAction, messages.JobError, why, when)
}

// ended returns a job that there is not, for what can be told by a job only.
func (p *poller) ended(n name, r *remoteRequest, action string, code messages.Code, why string, when time.Time) []remoteJob {
	if when.IsZero() { // a job server wants a time
		when = p.ports.Now()
	}
	t := at(when)
	return []remoteJob{p.remote(r, jobStatus{
		Identifier: messages.NewJobID(n.id, action), RapID: n.id, Backend: n.backend, Action: action,
		Status: code.State(), StatusCode: code, StatusMessage: why, CreatedAt: t, UpdatedAt: t, StartedAt: t, CompletedAt: t,
	})}
}
