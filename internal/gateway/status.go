package gateway

import (
	"context"
	"errors"
	"net/http"
	"time"

	"sluice/messages"
)

// A jobStatus is a job as the reference tells of it.
type jobStatus struct {
	Identifier    messages.JobID     `json:"identifier"`
	RapID         messages.RequestID `json:"rap_id"`
	Backend       string             `json:"backend"`
	Action        string             `json:"action"`
	RunCommand    string             `json:"run_command"`
	Status        messages.State     `json:"status"`
	StatusCode    messages.Code      `json:"status_code"`
	StatusMessage string             `json:"status_message"`
	CreatedAt     *stamp             `json:"created_at"`
	UpdatedAt     *stamp             `json:"updated_at"`
	StartedAt     *stamp             `json:"started_at"`
	CompletedAt   *stamp             `json:"completed_at"`
	TraceContext  *struct{}          `json:"trace_context"` // none: it is the reference's own tracing
	Metrics       any                `json:"metrics"`       // none, unless the backend's setting discloses them
	RequiresDB    bool               `json:"requires_db"`
}

type statuses struct {
	Jobs         []jobStatus          `json:"jobs"`
	Unrecognised []messages.RequestID `json:"unrecognised_rap_ids"`
}

// status tells of the jobs of requests. One without jobs is unrecognised, unless
// it waits for the planner: the job server fails one that is unrecognised.
func (g *Gateway) status(ctx context.Context, backends []string, data []byte) (answer, error) {
	b := parseBody(data, "rap_ids")
	var ids []string
	if b.fault == "" {
		ids = b.texts("rap_ids", 0)
	}
	if b.fault == "" && len(ids) > maxRapIDs {
		b.fail("rap_ids", "%d are too many; the limit is %d", len(ids), maxRapIDs)
	}
	if b.fault != "" {
		return invalid(b.fault), nil
	}
	out := statuses{Jobs: []jobStatus{}, Unrecognised: []messages.RequestID{}}
	told := map[messages.RequestID]bool{}
	for _, text := range ids {
		id := messages.RequestID(text)
		if told[id] {
			continue
		}
		told[id] = true
		n, s, err := g.find(ctx, backends, id)
		if err != nil {
			return answer{}, err
		}
		for i := range s.jobs {
			out.Jobs = append(out.Jobs, tell(n, &s.jobs[i]))
		}
		if len(s.jobs) > 0 {
			continue
		}
		waits, err := g.waitsAnywhere(ctx, backends, id)
		if err != nil {
			return answer{}, err
		}
		if !waits {
			out.Unrecognised = append(out.Unrecognised, id)
		}
	}
	return answer{http.StatusOK, out}, nil
}

// waitsAnywhere reports whether a request waits for the planner, on any of the
// backends.
func (g *Gateway) waitsAnywhere(ctx context.Context, backends []string, id messages.RequestID) (bool, error) {
	if id.Check() != nil {
		return false, nil
	}
	for _, backend := range backends {
		n := name{backend, id}
		s, err := g.raps.read(ctx, n)
		if err != nil {
			return false, err
		}
		if waits, err := g.waits(ctx, n, &s); err != nil || waits {
			return waits, err
		}
	}
	return false, nil
}

// tell turns a job into the reference's form.
func tell(n name, j *messages.JobOutcome) jobStatus {
	var metrics any = struct{}{}
	if j.Disclosed != nil && j.Disclosed.Metrics != nil {
		metrics = j.Disclosed.Metrics
	}
	return jobStatus{
		Metrics:    metrics,
		Identifier: j.Job, RapID: n.id, Backend: n.backend, Action: j.Action, RunCommand: j.Run,
		Status: j.State, StatusCode: j.Code, StatusMessage: sentence(j),
		CreatedAt: at(j.Created), UpdatedAt: at(j.Updated), StartedAt: at(j.Started), CompletedAt: at(j.Completed), RequiresDB: j.Database,
	}
}

// sentence is what the reference says of a job's end (controller/main.py,
// save_results).
func sentence(j *messages.JobOutcome) string {
	if j.Code == messages.Success && j.Withheld > 0 {
		return "Completed successfully, but some file(s) marked as moderately_sensitive were excluded. See job log for details."
	}
	return j.Message
}

// A stamp is a time as the reference writes it: whole seconds.
type stamp time.Time

// MarshalText writes a time.
func (s stamp) MarshalText() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format("2006-01-02T15:04:05Z")), nil
}

// at returns a time that is there.
func at(t time.Time) *stamp {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// A backendStatus is a backend as the reference tells of it.
type backendStatus struct {
	Slug        string      `json:"slug"`
	LastSeen    *stamp      `json:"last_seen"`
	Paused      flag        `json:"paused"`
	Maintenance maintenance `json:"db_maintenance"`
}

type flag struct {
	Status string `json:"status"` // on, off
	Since  *stamp `json:"since"`
}

type maintenance struct {
	flag
	Type *string `json:"type"` // scheduled, manual
}

// backendStatus tells what operators have set, and when a worker was heard of
// last.
func (g *Gateway) backendStatus(ctx context.Context, backends []string, _ []byte) (answer, error) {
	list := make([]backendStatus, 0, len(backends))
	for _, backend := range backends {
		s, err := g.lookAt(ctx, backend)
		if err != nil {
			return answer{}, err
		}
		list = append(list, s)
	}
	return answer{http.StatusOK, map[string]any{"backends": list}}, nil
}

func (g *Gateway) lookAt(ctx context.Context, backend string) (backendStatus, error) {
	s := backendStatus{Slug: backend}
	set, err := g.setting(ctx, backend)
	if err != nil {
		return s, err
	}
	s.Paused, s.Maintenance.flag = switched(set.Paused), switched(set.Maintenance)
	if set.Maintenance != nil {
		kind := "scheduled"
		if set.Maintenance.Manual {
			kind = "manual"
		}
		s.Maintenance.Type = &kind
	}
	last, err := g.ports.Presence.LastSeen(ctx, backend)
	if err != nil {
		return s, err
	}
	s.LastSeen = at(last)
	return s, nil
}

// setting reads what operators have set for a backend.
func (g *Gateway) setting(ctx context.Context, backend string) (messages.Setting, error) {
	switch e, err := g.ports.Settings.Get(ctx, messages.SettingKey(backend)); {
	case err != nil && !errors.Is(err, messages.ErrNotFound):
		return messages.Setting{}, err
	case err == nil && e.Value != nil:
		return *e.Value, nil
	}
	return messages.Setting{}, nil
}

func switched(s *messages.Switch) flag {
	if s == nil {
		return flag{Status: "off"}
	}
	return flag{Status: "on", Since: at(s.Since)}
}
