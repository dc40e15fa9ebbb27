package planner

import (
	"context"
	"fmt"
	"strings"
	"time"

	"sluice/messages"
)

// explain writes into the records of waiting jobs what they wait for, a bounded
// number at a time.
func (s *session) explain(ctx context.Context, b *backend) error {
	const most = 32 // calls wait meanwhile
	if len(b.labels) == 0 {
		return nil
	}
	list := make([]label, 0, most)
	ordered := false
	for j := range b.labels {
		if len(list) == most {
			break
		}
		delete(b.labels, j)
		if s.jobs[j.key] == j && j.record.State == messages.Pending && j.record.Wanted == "" && j.doom == "" {
			list = append(list, label{j: j})
			ordered = ordered || j.place != nil
		}
	}
	why := s.reasons(b, ordered)
	for i, l := range list {
		list[i].code, _, _ = s.standby(b, l.j)
		list[i].message = clip(why.of(l.j, list[i].code))
	}
	jobs := make([]*job, len(list))
	for i, l := range list {
		jobs[i] = l.j
	}
	return s.eachJob(ctx, jobs, func(ctx context.Context, i int) error { return s.label(ctx, list[i]) })
}

// A label is what a record is to say about a waiting job.
type label struct {
	j       *job
	code    messages.Code
	message string // empty: the code's own
}

func (s *session) label(ctx context.Context, l label) error {
	switch {
	case l.code != l.j.record.Code:
		return s.set(ctx, l.j, l.code, l.message)
	case l.message == "" || l.message == l.j.record.Message:
		return nil
	}
	return s.save(ctx, l.j, func(r *messages.Job) error { // no other code: only what people read
		r.Message = l.message
		r.Touch(s.Now())
		return nil
	})
}

// reasons is what the jobs of a backend wait for, at one moment.
type reasons struct {
	s     *session
	b     *backend
	pools map[string]Pool
	spot  map[messages.JobID]int // from 1
	line  map[string]int         // how many wait for a pool
}

func (s *session) reasons(b *backend, order bool) reasons {
	w := reasons{s: s, b: b, spot: map[messages.JobID]int{}, line: map[string]int{}}
	if !order {
		return w
	}
	pools, inFlight := s.usage(b)
	w.pools = pools
	for pool, line := range Order(&b.backlog, inFlight) {
		w.line[pool] = len(line)
		for i, c := range line {
			w.spot[c.Job] = i + 1
		}
	}
	return w
}

// of returns the sentence for a job that waits with a code; the reference's own
// sentence comes first. Empty means: leave what is there.
func (w reasons) of(j *job, code messages.Code) string {
	switch code {
	case messages.Paused, messages.WaitingOnReboot:
		if sw := w.b.setting.Reboot; sw != nil {
			return code.Message() + since(sw)
		}
		return code.Message() + since(w.b.setting.Paused)
	case messages.WaitingDBMaintenance:
		return code.Message() + since(w.b.setting.Maintenance)
	case messages.WaitingOnDependencies:
		return code.Message() + ": " + w.awaited(j)
	case messages.WaitingOnWorkers, messages.WaitingOnDBWorkers:
		return w.room(j, code)
	}
	return ""
}

// since says who has set a switch, and when.
func since(sw *messages.Switch) string {
	if sw == nil {
		return ""
	}
	text := " (since " + sw.Since.UTC().Format(time.RFC3339)
	if sw.By != "" {
		text += ", by " + sw.By
	}
	if sw.Reason != "" {
		text += ": " + sw.Reason
	}
	return text + ")"
}

// awaited names the actions that a job waits for.
func (w reasons) awaited(j *job) string {
	var names []string
	for _, id := range j.record.WaitFor {
		if d := w.s.jobs[jobKey{j.key.backend, id}]; d != nil {
			names = append(names, d.record.Action)
		}
	}
	return some(names)
}

// some lists the first few names.
func some(names []string) string {
	const most = 5
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), more)
	}
	return strings.Join(names, ", ")
}

// room says why there is none for a job.
func (w reasons) room(j *job, code messages.Code) string {
	r, text := j.record, code.Message()
	if r.Weight > 1 {
		text += " for resource intensive job"
	}
	pool, spot := w.pools[r.Pool], w.spot[r.ID]
	in := fmt.Sprintf("pool %s of backend %s", r.Pool, r.Backend)
	switch {
	case pool.Workers == 0:
		return fmt.Sprintf("%s: there is no live worker in %s", text, in)
	case pool.Limit > 0 && r.Weight > pool.Limit+tiny:
		return fmt.Sprintf("%s: it takes %v slots, and %s is limited to %v", text, r.Weight, in, pool.Limit)
	case r.Weight > pool.Largest+tiny:
		return fmt.Sprintf("%s: it takes %v slots, and the largest worker in %s has %v", text, r.Weight, in, pool.Largest)
	case spot == 0:
		return text
	case pool.Limit > 0 && pool.InFlight+r.Weight > pool.Limit+tiny:
		return fmt.Sprintf("%s: the limit of %v slots in %s is reached; position %d of %d", text, pool.Limit, in, spot, w.line[r.Pool])
	}
	return fmt.Sprintf("%s: all slots in %s are taken; position %d of %d", text, in, spot, w.line[r.Pool])
}
