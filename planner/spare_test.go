package planner_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/planner"
)

// unwritable is a register of jobs that takes some records not, now or later.
type unwritable struct {
	planner.Register[messages.Job]
	refuses func(*messages.Job) bool
}

func (r unwritable) Update(ctx context.Context, key string, j *messages.Job, last messages.Revision) (messages.Revision, error) {
	if r.refuses(j) {
		return 0, messages.ErrInvalid
	}
	return r.Register.Update(ctx, key, j, last)
}

// unsayable is an outbox that takes some messages not, now or later.
type unsayable struct {
	planner.Outbox
	refuses func(messages.Message) bool
}

func (o unsayable) Publish(ctx context.Context, subject string, m messages.Message, id string) error {
	if o.refuses(m) {
		return messages.ErrTooLarge
	}
	return o.Outbox.Publish(ctx, subject, m, id)
}

func (o unsayable) PublishAll(ctx context.Context, list []messages.Outgoing) []error {
	errs := make([]error, len(list))
	for i, m := range list {
		errs[i] = o.Publish(ctx, m.Subject, m.Message, m.ID)
	}
	return errs
}

// TestOneCannotGoOn: a record that cannot be written, an action that cannot be
// published and an outcome that cannot be told are those of one job or one
// request: no session ends, and all others go on.
func TestOneCannotGoOn(t *testing.T) {
	t.Parallel()
	of := func(j *messages.Job, code messages.Code) bool { return j.Request == "bad" && j.Code == code }
	for name, c := range map[string]struct {
		record  func(*messages.Job) bool
		message func(messages.Message) bool
		want    messages.Code // of the bad one's job; empty: it is not written
		letters int
	}{
		"begun":      {record: func(j *messages.Job) bool { return of(j, messages.Initiated) }, want: messages.InternalError},
		"labelled":   {record: func(j *messages.Job) bool { return of(j, messages.WaitingOnWorkers) }, want: messages.InternalError},
		"finalizing": {record: func(j *messages.Job) bool { return of(j, messages.Finalizing) }, want: messages.Success}, // as its commit says
		"ended":      {record: func(j *messages.Job) bool { return of(j, messages.Success) }, want: messages.InternalError, letters: 1},
		"never":      {record: func(j *messages.Job) bool { return j.Request == "bad" }},
		"its action": {message: func(m messages.Message) bool {
			a, ok := m.(*messages.Action)
			return ok && a.Request == "bad"
		}, want: messages.InternalError, letters: 1},
		"its outcomes": {message: func(m messages.Message) bool {
			o, ok := m.(*messages.Outcome)
			return ok && o.Request == "bad"
		}, want: messages.Success},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, diamond)
				b.stop()
				ports := b.Connect(0, false, nil).Ports()
				if c.record != nil {
					ports.Jobs = unwritable{ports.Jobs, c.record}
				}
				if c.message != nil {
					ports.Outbox = unsayable{ports.Outbox, c.message}
				}
				b.serve(ports)
				b.sleep(10 * time.Second)
				b.ask("bad", "alone")
				w := b.worker("w1", 2)
				b.run(w)
				b.request(&messages.Request{ID: "good", Workspace: "elsewhere", Actions: []string{"alone"}})
				b.run(w)
				b.sleep(time.Minute)
				if got := b.Job(t, "tpp", "elsewhere", messages.NewJobID("good", "alone")); got.Code != messages.Success {
					t.Errorf("the good job is %s", got.Code)
				}
				if c.want != "" {
					b.wantCode("bad", "alone", c.want)
				}
				if l := Lookup[messages.Leader](b.Fleet, "fleet", messages.LeaderKey); l == nil || l.Again != 0 {
					t.Errorf("the planner has begun anew: %+v", l)
				}
				if c.letters > 0 && len(b.Dead()) != c.letters {
					t.Errorf("dead letters: %v", b.Dead())
				}
			})
		})
	}
}
