package gateway

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sluice/messages"
)

// cancelled is the reference's answer to a cancellation.
type cancelled struct {
	Result   string   `json:"result"`
	Details  string   `json:"details"`
	Count    int      `json:"count"`
	Finished []string `json:"finished,omitempty"` // ours: actions that had ended before
}

// cancel publishes a cancellation of a request's actions. All must be there, or
// none is cancelled. An action that has ended stays as it is (I2): where that is
// all of them the cancellation is refused.
func (g *Gateway) cancel(ctx context.Context, backends []string, data []byte) (answer, error) {
	b := parseBody(data, "rap_id", "actions")
	var id messages.RequestID
	var actions []string
	if b.fault == "" {
		id, actions = messages.RequestID(b.text("rap_id")), b.texts("actions", 1)
	}
	if b.fault != "" {
		return invalid(b.fault), nil
	}
	n, s, err := g.find(ctx, backends, id)
	if err != nil {
		return answer{}, err
	}
	if len(s.jobs) == 0 {
		return answer{http.StatusNotFound, details{
			Error: "jobs not found", Details: fmt.Sprintf("No jobs found for rap_id %s", cut(string(id))), RapID: id,
		}}, nil
	}
	open, finished, unknown := s.sort(actions)
	if len(unknown) > 0 {
		return answer{http.StatusNotFound, details{
			Error: "jobs not found", Details: "Jobs matching requested cancelled actions could not be found: " + cut(strings.Join(unknown, ",")), RapID: id, NotFound: unknown,
		}}, nil
	}
	if len(open) == 0 {
		return answer{http.StatusConflict, details{
			Error: "jobs already finished", Details: "already finished: " + cut(strings.Join(finished, ",")), RapID: id, Finished: finished,
		}}, nil
	}
	if err := g.publishCancel(ctx, n, s.workspace, open); err != nil {
		return answer{}, err
	}
	text := fmt.Sprintf("%d actions cancelled", len(open))
	if len(finished) > 0 {
		text += fmt.Sprintf(", %d already finished", len(finished))
	}
	return answer{http.StatusOK, cancelled{"Success", text, len(open), finished}}, nil
}

func (g *Gateway) publishCancel(ctx context.Context, n name, workspace string, actions []string) error {
	names := slices.Clone(actions)
	slices.Sort(names)
	c := &messages.Cancel{Request: n.id, Backend: n.backend, Workspace: workspace, Actions: slices.Compact(names), By: "job server"}
	if err := g.ports.Outbox.Publish(ctx, c.Subject(), c, ""); err != nil {
		return fmt.Errorf("publish the cancellation of request %s: %w", n.id, err)
	}
	return nil
}

// sort divides actions into those that can be cancelled, or were, each as often
// as it was named (the reference counts so); those that have ended otherwise;
// and those that the request has no job of, in order.
func (s *seen) sort(actions []string) (open, finished, unknown []string) {
	of := map[string]*messages.JobOutcome{}
	for i := range s.jobs {
		of[s.jobs[i].Action] = &s.jobs[i]
	}
	for _, action := range actions {
		switch j := of[action]; {
		case j == nil:
			unknown = append(unknown, action)
		case j.State.Final() && j.Code != messages.CancelledByUser:
			finished = append(finished, action)
		default:
			open = append(open, action)
		}
	}
	slices.Sort(unknown)
	slices.Sort(finished)
	return open, slices.Compact(finished), slices.Compact(unknown)
}

// find looks for a request on the backends that a token may use.
func (g *Gateway) find(ctx context.Context, backends []string, id messages.RequestID) (name, seen, error) {
	if id.Check() != nil {
		return name{}, seen{}, nil // nobody can have made it
	}
	for _, backend := range backends {
		n := name{backend, id}
		s, err := g.raps.read(ctx, n)
		if err != nil || s.accepted || len(s.jobs) > 0 {
			return n, s, err
		}
	}
	return name{}, seen{}, nil
}
