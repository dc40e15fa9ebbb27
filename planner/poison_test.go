package planner_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
	"sluice/planner"
)

// A poisoned fleet has a planner, a backend that is well and one whose worker
// writes what it likes.
type poisoned struct {
	*testing.T
	ctx   context.Context
	c     *jetstream.Conn
	reign string // of the planner, when all began
}

func poison(t *testing.T) *poisoned {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	cfg := planner.DefaultConfig()
	cfg.LeaseTTL, cfg.LeaseGrace, cfg.LeaseKeep, cfg.Reconcile, cfg.Backoff, cfg.MaxBackoff = time.Second, 2*time.Second, time.Hour, time.Second, 0, 0
	ctx := serverPlanner(t, c, study(0), cfg)
	serverWorker(ctx, t, c, "other")
	announce(ctx, t, c, "test")
	p := &poisoned{T: t, ctx: ctx, c: c}
	p.good("first")
	p.reign = p.leader()
	return p
}

// leader names the reign of the active planner: each session has its own.
func (p *poisoned) leader() string {
	p.Helper()
	e, err := p.c.LeaderRegister().Get(p.ctx, messages.LeaderKey)
	if err != nil || e.Value == nil {
		p.Fatalf("there is no planner: %v", err)
	}
	return e.Value.Nonce
}

// good has a request of the other backend finish.
func (p *poisoned) good(id messages.RequestID) {
	p.Helper()
	request(p.ctx, p.T, p.c, "other", id)
	finished(p.ctx, p.T, p.c, "other", id)
}

// unmoved checks that no session has ended.
func (p *poisoned) unmoved() {
	p.Helper()
	if p.leader() != p.reign {
		p.Error("the planner has begun anew")
	}
}

// put stores bytes on a subject.
func (p *poisoned) put(subject string, data []byte) {
	p.Helper()
	if err := p.c.Repeat(p.ctx, jetstream.Tapped{Subject: subject, Data: data}, ""); err != nil {
		p.Fatal(err)
	}
}

// begin has a request of the bad backend begin: its worker has the attempt.
func (p *poisoned) begin(id messages.RequestID) messages.Action {
	p.Helper()
	request(p.ctx, p.T, p.c, "test", id)
	return p.take()
}

func (p *poisoned) take() (a messages.Action) {
	p.Helper()
	q := p.c.Queue(jetstream.Actions, jetstream.WorkerConsumer("test", "db"), "worker w1")
	d, err := q.Next(p.ctx)
	if err != nil {
		p.Fatal(err)
	}
	if err := messages.Decode(d.Data, &a); err != nil {
		p.Fatal(err)
	}
	lease := &messages.Lease{State: messages.LeaseHeld, Owner: "w1", Nonce: "n", Weight: a.Weight, Pool: a.Pool}
	if _, err := p.c.LeasesRegister().Create(p.ctx, messages.LeaseKey(a.Backend, a.Job, a.Attempt), lease, time.Hour); err != nil {
		p.Fatal(err)
	}
	if err := d.Settle(p.ctx, nil); err != nil {
		p.Fatal(err)
	}
	return a
}

// job returns the record of an action's job.
func (p *poisoned) job(a *messages.Action) *messages.Job {
	p.Helper()
	e, err := p.c.JobsRegister().Get(p.ctx, messages.JobKey(a.Backend, a.Workspace, a.Job))
	if err != nil {
		p.Fatal(err)
	}
	return e.Value
}

// dead returns the reasons of the dead letters by where they come from.
func (p *poisoned) dead() map[string]string {
	p.Helper()
	of := map[string]string{}
	if err := p.c.DeadLetters(p.ctx, func(l jetstream.DeadLetter) { of[l.Subject] = l.Reason }); err != nil {
		p.Fatal(err)
	}
	return of
}

// TestOddSubjects: requests and cancellations whose subjects name no backend or
// no workspace are parked at once, though nobody can be told.
func TestOddSubjects(t *testing.T) {
	p := poison(t)
	long := strings.Repeat("a", 200)
	var subjects []string
	for _, kind := range []string{"request", "cancel"} {
		for _, place := range []string{"TPP.ws", "=.ws", long + ".ws", "test.=", "test.w=2Es", "te=st.ws"} {
			subjects = append(subjects, "sluice."+kind+"."+place)
		}
	}
	for i, subject := range subjects {
		p.put(subject, fmt.Appendf(nil, `{"schema":1,"id":"odd%d","request":"odd%d"}`, i, i))
	}
	p.good("good")
	letters := p.dead()
	for _, subject := range subjects {
		if letters[subject] == "" {
			t.Errorf("%s is not in the dead letters", subject)
		}
	}
	p.unmoved()
}

// TestGarbledLease: whoever writes nonsense over a lease has lost it like one
// that does not renew it, and nobody else has.
func TestGarbledLease(t *testing.T) {
	for name, garbage := range map[string]string{
		"not JSON":          "garbage",
		"of another schema": `{"schema":2,"state":"held","owner":"w1"}`,
		"too long to keep":  `{"schema":1,"state":"held","owner":"w1","nonce":"` + strings.Repeat("n", messages.MaxPayload-100) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			p := poison(t)
			a := p.begin("r1")
			key := messages.LeaseKey(a.Backend, a.Job, a.Attempt)
			p.put("$KV.SLUICE_LEASES."+key, []byte(garbage))
			p.good("good")
			if again := p.take(); again.Job != a.Job || again.Attempt != 2 {
				t.Fatalf("got attempt %d of %s", again.Attempt, again.Job)
			}
			if e, err := p.c.LeasesRegister().Get(p.ctx, key); err != nil || e.Value == nil || e.Value.State != messages.LeaseFenced {
				t.Errorf("the lease is not fenced: %v, %+v", err, e.Value)
			}
			if r := p.job(&a); len(r.Lost) != 1 {
				t.Errorf("lost attempts: %+v", r.Lost)
			}
			p.unmoved()
		})
	}
}

// TestGarbledCommit: a commit that cannot be read, or does not fit the job's
// record, is for ever: its job ends as an internal error, and all others go on.
func TestGarbledCommit(t *testing.T) {
	for name, garbage := range map[string]string{
		"not JSON":           "garbage",
		"with a long digest": `{"schema":1,"job":%q,"attempt":1,"manifest":"` + digest + `","result":{"worker":"w1","image_digest":"` + strings.Repeat("d", 900_000) + `"}}`,
		"of a strange time":  `{"schema":1,"job":%q,"attempt":1,"manifest":"` + digest + `","result":{"worker":"w1","finished_at":"9999-12-31T23:59:59-23:00"}}`,
		"of another end":     `{"schema":1,"job":%q,"code":"stale_codelists"}`,
	} {
		t.Run(name, func(t *testing.T) {
			p := poison(t)
			a := p.begin("r1")
			p.put("$KV.SLUICE_COMMITS."+messages.CommitKey(a.Backend, a.Job), []byte(strings.ReplaceAll(garbage, "%q", fmt.Sprintf("%q", a.Job))))
			e := &messages.PersisterEvent{Job: a.Job, Attempt: 1, Winner: 1, Backend: a.Backend, Workspace: a.Workspace, Verdict: messages.Persisted}
			if err := p.c.Publish(p.ctx, e.Subject(), e, ""); err != nil {
				t.Fatal(err)
			}
			p.good("good")
			finished(p.ctx, t, p.c, "test", "r1")
			if r := p.job(&a); r.Code != messages.InternalError {
				t.Errorf("the job ended as %s (%s)", r.Code, r.Message)
			}
			if p.dead()[a.Subject()] == "" {
				t.Error("there is no dead letter")
			}
			p.unmoved()
		})
	}
}
