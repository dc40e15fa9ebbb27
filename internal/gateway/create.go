package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"sluice/messages"
)

// The reference's permissions (controller/webapp/api_spec/openapi.yaml).
var (
	datasetPermissions = []string{
		"appointments", "icnarc", "isaric", "open_prompt", "ukrr", "waiting_list", "sgss_covid_all_tests",
		"occupation_on_covid_vaccine_record", "covid_therapeutics",
	}
	populationPermissions = []string{"include_ndoo", "include_t1oo", "include_gp_unactivated"}
	componentAccess       = []string{"event_level_data"}
)

// created is the reference's answer to a request.
type created struct {
	Result  string             `json:"result"`
	Details string             `json:"details"`
	RapID   messages.RequestID `json:"rap_id"`
	Count   int                `json:"count"`
}

const cannotCreate = "Error creating jobs"

// create publishes a request and answers what the planner makes of it. The same
// request again changes nothing.
func (g *Gateway) create(ctx context.Context, backends []string, data []byte) (answer, error) {
	req, fault := parseCreate(data)
	if fault != "" {
		return invalid(fault), nil
	}
	if !slices.Contains(backends, req.Backend) {
		return refused(http.StatusBadRequest, cannotCreate, "Unknown error"), nil
	}
	if reasons := unfit(req); len(reasons) > 0 {
		return refused(http.StatusBadRequest, cannotCreate, "%s", strings.Join(reasons, "\n")), nil
	}
	n := name{req.Backend, req.ID}
	place := g.raps.get(n)
	select { // the same request sent twice at once is one after another
	case place.creating <- struct{}{}:
		defer func() { <-place.creating }()
	case <-ctx.Done():
		return answer{}, ctx.Err()
	}
	before, err := g.raps.read(ctx, n)
	switch {
	case err != nil:
		return answer{}, err
	case before.accepted && !before.same(req.Workspace, req.Source):
		return inconsistent(req.ID), nil
	case len(before.jobs) > 0:
		return answer{http.StatusOK, created{"No change", fmt.Sprintf("Jobs already created for rap_id '%s'", req.ID), req.ID, before.count()}}, nil
	case before.answer == messages.OutcomeFinished:
		return decided(req.ID, &before), nil
	}
	now, err := g.request(ctx, &req, &before)
	switch {
	case err != nil:
		return answer{}, err
	case now.accepted && !now.same(req.Workspace, req.Source):
		return inconsistent(req.ID), nil
	}
	return decided(req.ID, &now), nil
}

func inconsistent(id messages.RequestID) answer {
	return refused(http.StatusBadRequest, "Inconsistent request data", "Jobs already created for rap_id '%s' are inconsistent with request data", id)
}

// decided answers a request that the planner has decided on.
func decided(id messages.RequestID, s *seen) answer {
	switch {
	case s.answer == messages.OutcomeRejected:
		reasons := strings.Join(s.reasons, "\n")
		if s.code == messages.InvalidProject {
			reasons = "Invalid project: \n" + reasons
		}
		return refused(http.StatusBadRequest, cannotCreate, "%s", reasons)
	case len(s.jobs) == 0:
		return answer{http.StatusOK, created{"Nothing to do", strings.Join(s.reasons, "\n"), id, 0}}
	}
	return answer{http.StatusCreated, created{"Success", fmt.Sprintf("Jobs created for rap_id '%s'", id), id, s.count()}}
}

// request publishes a request, unless it lies there unanswered, and waits until
// it is decided.
func (g *Gateway) request(ctx context.Context, req *messages.Request, before *seen) (seen, error) {
	n := name{req.Backend, req.ID}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Answer)
	defer cancel()
	hints, stop, err := g.ports.Hints.Hints((&messages.Outcome{Backend: n.backend, Request: n.id}).Subject())
	if err != nil {
		return seen{}, err
	}
	defer stop()
	waits, err := g.waits(ctx, n, before)
	if err != nil {
		return seen{}, err
	}
	if !waits {
		if err := g.ports.Outbox.Publish(ctx, req.Subject(), req, ""); err != nil {
			return seen{}, fmt.Errorf("publish request %s: %w", req.ID, err)
		}
	}
	tick := time.NewTicker(time.Second) // a hint may be lost
	defer tick.Stop()
	for {
		now, err := g.raps.read(ctx, n)
		switch {
		case err == nil && now.settled() && (now.answered > before.answered || !before.settled()):
			return now, nil
		case ctx.Err() != nil:
			return seen{}, later{fmt.Sprintf("request %s is stored, and no planner has answered it in %v; ask for its status", req.ID, g.cfg.Answer)}
		case err != nil:
			return seen{}, err
		}
		select {
		case <-hints:
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// waits reports whether a request was published to which there is no answer yet.
func (g *Gateway) waits(ctx context.Context, n name, s *seen) (bool, error) {
	a, found, err := g.requests.find(ctx, n)
	return found && a.at.After(s.at), err
}

// unfit reports why a request can be no message, in the reference's words where
// it has some.
func unfit(req messages.Request) []string {
	var reasons []string
	for _, action := range req.Actions {
		if messages.CheckAction(action) != nil {
			reasons = append(reasons, fmt.Sprintf("Action '%s' not found in project.yaml", cut(action)))
		}
	}
	req.Actions = []string{messages.RunAll} // those were looked at
	if err := req.Validate(); err != nil {
		reasons = append(reasons, messages.Sentences(err)...)
	}
	return reasons
}
