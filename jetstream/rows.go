package jetstream

import (
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// A Row describes a stream, register or consumer for people.
type Row struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"` // stream, register, consumer
	Subjects string `json:"subjects"`
	Keeps    string `json:"keeps"`
	Why      string `json:"why"`
}

// Rows lists the whole topology for people.
func (t Topology) Rows() []Row {
	var rows []Row
	for _, s := range t.streams() {
		r := Row{Name: s.Name, Kind: "stream", Subjects: strings.Join(s.Subjects, " "), Why: s.Description, Keeps: "limits"}
		if bucket, ok := strings.CutPrefix(s.Name, "KV_"); ok {
			r.Name, r.Kind, r.Subjects, r.Keeps = bucket, "register", bucket, fmt.Sprintf("history %d", s.MaxMsgsPerSubject)
		}
		if s.Retention == jetstream.WorkQueuePolicy {
			r.Keeps = "work queue"
		}
		r.Keeps += fmt.Sprintf(", %d MiB", s.MaxBytes>>20)
		rows = append(rows, r)
	}
	for _, c := range t.consumers() {
		rows = append(rows, Row{Name: c.config.Durable, Kind: "consumer", Subjects: c.config.FilterSubject, Keeps: c.stream, Why: "durable pull consumer"})
	}
	return rows
}
