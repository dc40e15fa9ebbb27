package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/messages"
)

// request takes one request or cancellation.
func (s *session) request(ctx context.Context, d *messages.Delivery) error {
	place, err := messages.ParseSubject(d.Subject)
	if err != nil || place.Kind != "request" && place.Kind != "cancel" {
		return messages.Park("subject %s is not that of a request or a cancellation", messages.Quote(d.Subject))
	}
	if err := errors.Join(messages.CheckBackend(place.Backend), messages.CheckWorkspace(place.Workspace)); err != nil {
		return messages.Park("subject %s is none that an answer could go to: %w", messages.Quote(d.Subject), err) // nor a plan be kept for
	}
	if place.Kind == "cancel" {
		return s.enough(d, s.cancel(ctx, place, d))
	}
	err = s.newRequest(ctx, place, d)
	end := s.enough(d, err)
	if parked := new(*messages.Parked); errors.As(end, parked) && !errors.As(err, parked) {
		return s.tellGivenUp(ctx, place, d, end)
	}
	return end
}

// mostTries bounds how often a message is tried.
const mostTries = 100

// enough gives up a message that no other try mends, and one that has failed so
// often that it must not hold up the others any longer (I5). With the pauses
// between deliveries that takes the better part of an hour.
func (s *session) enough(d *messages.Delivery, err error) error {
	switch {
	case err == nil || s.ctx.Err() != nil:
		return err
	case messages.Unmendable(err):
		return messages.Park("%w", err)
	case d.Tries >= mostTries:
		return messages.Park("given up after %d tries: %w", d.Tries, err)
	}
	return err
}

// tellGivenUp has the job server told of a request that is parked, as far as its
// id can be read and nothing else was told or will be.
func (s *session) tellGivenUp(ctx context.Context, place messages.Place, d *messages.Delivery, parked error) error {
	id := readableID(d.Data)
	if id == "" {
		return parked
	}
	why := []string{messages.InternalError.Message()}
	s.planning.Lock()
	defer s.planning.Unlock()
	e, err := s.Plans.Get(ctx, messages.PlanKey(place.Backend, place.Workspace, id))
	switch {
	case errors.Is(err, messages.ErrNotFound):
		err = s.refuse(ctx, place, id, d.At, messages.InternalError, why)
	case err != nil:
		err = fmt.Errorf("read plan of request %s: %w", id, err)
	case !e.Value.Done && len(e.Value.Jobs) == 0:
		err = s.reject(ctx, draft{key: e.Key, plan: e.Value, revision: e.Revision}, messages.InternalError, why)
	} // a plan with jobs is carried out, by the next planner if need be
	if err := s.bear(err); err != nil {
		return err
	}
	return parked
}

// readableID returns the id of a request that may be unreadable otherwise; empty
// for none.
func readableID(data []byte) messages.RequestID {
	var head struct {
		ID messages.RequestID `json:"id"`
	}
	if _ = json.Unmarshal(data, &head); head.ID.Check() != nil {
		return ""
	}
	return head.ID
}

// newRequest takes a request. It returns when the plan is written, or it is
// written that the plan has to wait for the project file.
func (s *session) newRequest(ctx context.Context, place messages.Place, from *messages.Delivery) error {
	var req messages.Request
	data, asked := from.Data, from.At
	err := messages.Decode(data, &req)
	if len(data) > messages.MaxRequestBytes {
		err = messages.Problems{fmt.Sprintf("the request is %d bytes long; the limit is %d", len(data), messages.MaxRequestBytes)}
	}
	if err != nil {
		return s.unreadable(ctx, place, from, err)
	}
	if problems := s.checkRequest(place, &req); len(problems) > 0 {
		return s.refuse(ctx, place, req.ID, asked, messages.InvalidRequest, problems)
	}
	key := messages.PlanKey(req.Backend, req.Workspace, req.ID)
	switch e, err := s.Plans.Get(ctx, key); {
	case err == nil:
		return s.repeated(ctx, place, draft{key: key, plan: e.Value, revision: e.Revision}, &req, asked)
	case !errors.Is(err, messages.ErrNotFound):
		return fmt.Errorf("read plan of request %s: %w", req.ID, err)
	}
	other, err := s.elsewhere(ctx, &req)
	if err != nil {
		return err
	}
	if other != "" {
		return s.refuse(ctx, place, req.ID, asked, messages.InvalidRequest, inconsistent(req.ID, "workspace", other))
	}
	d := draft{key: key, plan: &messages.Plan{Request: req, Created: s.Now()}}
	err = s.decide(ctx, d, s.cfg.SourceWait)
	if errors.Is(err, errNotHere) {
		return s.later(ctx, d, err)
	}
	return err
}

// unreadable answers what is not a valid request. If it cannot be decoded at
// all it is parked, too.
func (s *session) unreadable(ctx context.Context, place messages.Place, from *messages.Delivery, cause error) error {
	var invalid messages.Problems
	decoded := errors.As(cause, &invalid)
	if id := readableID(from.Data); id != "" {
		if err := s.refuse(ctx, place, id, from.At, messages.InvalidRequest, messages.Sentences(cause)); err != nil {
			return err
		}
		if decoded {
			return nil
		}
	}
	return messages.Park("request: %w", cause)
}

// taken are the names of folders that lie beside the workspaces, and what the
// highly sensitive tier keeps there (docs/protocol.md, part 6).
var taken = map[string]string{"logs": "the records of jobs", "archives": "archived workspaces"}

// CheckRequest reports what is wrong with a valid request as one to this fleet,
// in the reference's words (controller/create_or_update_jobs.py,
// validate_rap_create_request). The error is messages.Problems.
func CheckRequest(cfg Config, req *messages.Request) error {
	var problems messages.Problems
	bad := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if len(cfg.Backends) > 0 && !slices.Contains(cfg.Backends, req.Backend) {
		bad("Invalid backend '%s', allowed are: %s", req.Backend, strings.Join(cfg.Backends, ", "))
	}
	if req.Database != "" && !slices.Contains(cfg.Databases, req.Database) {
		bad("Invalid database name '%s', allowed are: %s", req.Database, strings.Join(cfg.Databases, ", "))
	}
	if what := taken[req.Workspace]; what != "" && !cfg.WorkingFolder {
		bad("workspace name %q is taken: the highly sensitive tier keeps %s there", req.Workspace, what)
	}
	if req.Commit == messages.WorkingFolder && !cfg.WorkingFolder {
		bad("commit %s is for `sluice run` only; name a commit by its 40 hexadecimal digits", messages.Quote(req.Commit))
	}
	return problems.Err()
}

// checkRequest adds what only the subject and the source can tell.
func (p *Planner) checkRequest(place messages.Place, req *messages.Request) (problems []string) {
	if req.Backend != place.Backend || req.Workspace != place.Workspace {
		problems = append(problems, fmt.Sprintf("the request is for workspace %s on backend %s, and was published for workspace %s on backend %s",
			req.Workspace, req.Backend, place.Workspace, place.Backend))
	}
	if err := CheckRequest(p.cfg, req); err != nil {
		problems = append(problems, sentences(err)...)
	}
	if req.Commit != messages.WorkingFolder || p.cfg.WorkingFolder {
		if err := p.Source.CheckSource(req.Source); err != nil {
			problems = append(problems, sentences(err)...)
		}
	}
	return problems
}

// sentences returns what an error from a port tells the reader.
func sentences(err error) []string {
	var many messages.Problems
	var failure *messages.Failure
	switch {
	case errors.As(err, &many):
		return many
	case errors.As(err, &failure):
		return []string{failure.Detail}
	}
	return []string{err.Error()}
}

// repeated takes a request whose id has a plan: it changes nothing, and is
// answered as the first time.
func (s *session) repeated(ctx context.Context, place messages.Place, d draft, req *messages.Request, asked time.Time) error {
	first := d.plan.Request
	switch {
	case first.Repo != req.Repo:
		return s.refuse(ctx, place, req.ID, asked, messages.InvalidRequest, inconsistent(req.ID, "repo", first.Repo))
	case first.Commit != req.Commit:
		return s.refuse(ctx, place, req.ID, asked, messages.InvalidRequest, inconsistent(req.ID, "commit", first.Commit))
	case d.plan.Code == "" && !d.plan.Done:
		timer := time.NewTimer(s.cfg.SourceWait) // what comes after it should find its jobs
		defer timer.Stop()
		select {
		case <-s.pursue(d):
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
	s.announceLater(d, asked)
	return nil
}

func inconsistent(id messages.RequestID, what, was string) []string {
	return []string{fmt.Sprintf("Inconsistent request data: request %s was made before with the %s %s", id, what, messages.Quote(was))}
}

// elsewhere returns another workspace of the backend in which the request's id
// is taken: its jobs would have the same ids.
func (s *session) elsewhere(ctx context.Context, req *messages.Request) (workspace string, err error) {
	filter := messages.Token(req.Backend) + ".*.request." + messages.Token(string(req.ID))
	err = s.Plans.All(ctx, filter, func(e messages.Entry[messages.Plan]) {
		if w := e.Value.Request.Workspace; w != req.Workspace {
			workspace = w
		}
	})
	if err != nil {
		return "", fmt.Errorf("look for request %s: %w", req.ID, err)
	}
	return workspace, nil
}
