package progress

import (
	"encoding/json"
	"io"

	"sluice/messages"
)

// JSON prints an object a line: {"event": "planned"|"changed"|"ended", …}. Its
// fields are those of messages.Plan and messages.Job.
type JSON struct {
	W io.Writer
}

var _ Printer = JSON{}

// Planned prints {"event": "planned", "plan": …}.
func (p JSON) Planned(plan *messages.Plan) {
	p.print(struct {
		Event string         `json:"event"`
		Plan  *messages.Plan `json:"plan"`
	}{"planned", plan})
}

// Changed prints {"event": "changed", "job": …}.
func (p JSON) Changed(j *messages.Job) {
	p.print(struct {
		Event string        `json:"event"`
		Job   *messages.Job `json:"job"`
	}{"changed", j})
}

// Ended prints {"event": "ended", "jobs": […], "failed": …, "cancelled": …}.
func (p JSON) Ended(s Summary) {
	failed, cancelled := s.Failed()
	folders := map[string]string{}
	for _, f := range s.Folders {
		folders[f.What] = f.Path
	}
	p.print(struct {
		Event     string            `json:"event"`
		Jobs      []*messages.Job   `json:"jobs"`
		Failed    bool              `json:"failed"`
		Cancelled bool              `json:"cancelled"`
		Folders   map[string]string `json:"folders,omitempty"`
		Seconds   float64           `json:"seconds"`
	}{"ended", s.Jobs, failed, cancelled, folders, s.Took.Seconds()})
}

func (p JSON) print(v any) {
	enc := json.NewEncoder(p.W)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // a reader that has gone away is no fault of the request
}
