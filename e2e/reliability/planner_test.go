package reliability

import (
	"fmt"
	"strings"
	"time"

	"sluice/messages"
)

// Edits that several scenes need: a planner that takes over must not find what
// the one before it wanted.
var (
	wantedIsLost = edit{"planner/load.go", `if j.record.Wanted != "" && s.jobs[j.key] == j {`, `if false {`}
	wantedOnce   = edit{"planner/finish.go", `	return s.end(ctx, j, code, message)
}

// end ends`, `	if j.record.Wanted != "" {
		return nil
	}
	return s.end(ctx, j, code, message)
}

// end ends`}
	tombstoneIsLost = edit{"planner/reconcile.go", `if f.commit != nil {`, `if f.commit != nil && !f.commit.Tombstone() {`}
	notToldAgain    = edit{"planner/load.go", `open[key] = newRequest(e.Value.Request.Workspace)`, `open[key] = &request{workspace: e.Value.Request.Workspace}
			return`}
	repeatNotTold = edit{"planner/requests.go", `	s.announceLater(d, asked)`, `	_ = asked`}
	// Neither the planner nor the register knows a record that was made before.
	madeTwice = []edit{
		{"planner/jobs.go", `	if !errors.Is(err, messages.ErrConflict) {
		return nil, fmt.Errorf("create job`, `	if err != nil {
		return nil, fmt.Errorf("create job`},
		{"jetstream/register.go", `readErr == nil && messages.Revision(raw.Sequence) > last`, `readErr == nil && false && messages.Revision(raw.Sequence) > last`},
	}
)

// taken is a fleet whose worker holds the message of an action that it has not
// claimed, and whose planner is to die at a point.
func (f *fleet) taken(point string) (planner, worker *process) {
	planner, worker = f.planner("planner", point+"=die"), f.worker("worker", "worker.after-take=hang")
	f.start(planner, worker, f.persister("persister"))
	f.request("r1", "make")
	worker.awaitHit("worker.after-take")
	return planner, worker
}

// cancelled cancels a container that does not stop when asked, with a planner
// that dies at a point.
func cancelled(point string) func(*fleet) {
	return func(f *fleet) {
		p := f.whole("planner", point+"=die")
		f.request("r1", "stubborn")
		f.seen("r1", "stubborn", messages.Executing)
		f.cancel("r1")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"stubborn": "cancelled_by_user/1"})
		f.wantTiers(nothing, nothing)
		f.wantStarts(1)
		p.died(1)
	}
}

// givenUp has a job fail by our own fault, once, which is all that it may, with
// a planner that dies at a point.
func givenUp(point string) func(*fleet) {
	return func(f *fleet) {
		f.most = 1
		p := f.planner("planner", point+"=die")
		f.start(p, f.worker("worker", "worker.after-ack=die"), f.persister("persister"))
		f.request("r1", "make")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "internal_error/1"})
		f.wantDead(1, 2)
		f.wantTiers(nothing, nothing)
		p.died(1)
	}
}

// calmly runs two jobs with a process that dies at a point.
func calmly(service, what, attempts string) func(*fleet) {
	return func(f *fleet) {
		p := f.whole(service, what)
		f.calm(attempts)
		p.died(1)
	}
}

var plannerScenes = []scene{
	{"planner.after-lead", func(f *fleet) {
		p := f.planner("planner", "planner.after-lead=die")
		p.pause = time.Hour // another one has to take over
		p.start()
		f.await("the first planner has died", func() error {
			if p.log() == "" || !strings.Contains(p.log(), "fault:") {
				return fmt.Errorf("it lives")
			}
			return nil
		})
		f.start(f.planner("other"), f.worker("worker"), f.persister("persister"))
		f.calm("1")
	}, []edit{{"planner/leader.go", `r.revision, err = p.Leader.Create(ctx, messages.LeaderKey, &r.value, p.cfg.LeaderTTL)`, `r.revision, err = p.Leader.Create(ctx, messages.LeaderKey, &r.value, 24*time.Hour)`}}},

	{"planner.after-reject", func(f *fleet) {
		p := f.whole("planner", "planner.after-reject=die")
		f.request("r1", "nothing_of_that_name")
		f.finished("r1")
		f.settled()
		if got := f.outcomes("r1"); len(got) != 1 || got[0] != "rejected" {
			f.errorf("told: %v", got)
		}
		p.died(1)
	}, []edit{{"planner/load.go", `		case e.Value.Code != "":
			s.announceLater(d, time.Time{})`, `		case e.Value.Code != "":
			_ = d`}, repeatNotTold}},

	{"planner.after-plan", calmly("planner", "planner.after-plan=die", "1"),
		[]edit{{"planner/load.go", `drafts = append(drafts, d)`, `_ = d`}, {"planner/requests.go", `case <-s.pursue(d):`, `case <-ctx.Done():`}}},

	{"planner.between-records", calmly("planner", "planner.between-records=die", "1"), madeTwice},

	{"planner.before-plan-done", calmly("planner", "planner.before-plan-done=die", "1"), madeTwice},

	{"planner.after-record-before-action", calmly("planner", "planner.after-record-before-action=die", "1"),
		[]edit{{"planner/reconcile.go", `case r.Code == messages.Initiated && unclaimed && (`, `case false && (`}}},

	// The next planner cannot know that it was published, and publishes it again:
	// a queue that took it twice would have it run twice.
	{"planner.after-action", func(f *fleet) {
		p, w := f.taken("planner.after-action")
		other := f.worker("other")
		f.await("another planner is active", func() error {
			if strings.Count(p.log(), "registers read") < 2 {
				return fmt.Errorf("not yet")
			}
			return nil
		})
		other.start()
		f.finished("r1")
		w.letGo("worker.after-take")
		w.awaitLog("action was taken before")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "succeeded/1"})
		f.wantTiers(highFirst, mediumFirst)
		f.wantStarts(1)
		p.died(1)
	}, claimedTwice},

	{"planner.after-loss", givenUp("planner.after-loss"), []edit{wantedIsLost}},

	{"planner.after-fence", func(f *fleet) {
		p, w := f.planner("planner", "planner.after-fence=die"), f.worker("worker", "worker.after-start=die")
		w.pause = time.Hour
		f.start(p, w, f.persister("persister"))
		f.request("r1", "make")
		w.awaitHit("worker.after-start")
		f.worker("other").start()
		f.finished("r1")
		f.wantJobs("r1", map[string]string{"make": "succeeded/2"})
		f.wantTiers(highFirst, mediumFirst)
		p.died(1)
	}, []edit{{"planner/leases.go", `	case j.record.State == messages.Running && j.lease.state == messages.LeaseFenced:
		return s.retry`, `	case false:
		return s.retry`}}},

	{"planner.after-take-back", func(f *fleet) {
		p, w := f.taken("planner.after-take-back")
		set := func(setting *messages.Setting) {
			r := f.conn.SettingsRegister()
			key := messages.SettingKey(f.backend)
			if e, err := r.Get(f.ctx, key); err == nil {
				_, err = r.Update(f.ctx, key, setting, e.Revision)
				if err != nil {
					f.fatalf("%v", err)
				}
			} else if _, err := r.Create(f.ctx, key, setting); err != nil {
				f.fatalf("%v", err)
			}
		}
		set(&messages.Setting{Paused: &messages.Switch{Since: time.Now().UTC()}})
		f.await("it waits", func() error {
			if j := f.job("r1", "make"); j.State != messages.Pending {
				return fmt.Errorf("it is %s", j.Code)
			}
			return nil
		})
		w.letGo("worker.after-take")
		set(&messages.Setting{})
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "succeeded/2"})
		f.wantTiers(highFirst, mediumFirst)
		f.wantStarts(1)
		if lost := f.job("r1", "make").Lost; len(lost) > 0 {
			f.errorf("what was taken back counts as lost: %v", lost)
		}
		p.died(1)
	}, []edit{{"planner/leases.go", `	case j.record.State == messages.Running && j.lease.state == messages.LeaseFenced && j.lease.owner == fencer:`, `	case false:`}}},

	{"planner.after-wanted", cancelled("planner.after-wanted"), []edit{wantedIsLost, wantedOnce}},
	{"planner.after-tombstone", cancelled("planner.after-tombstone"), []edit{wantedIsLost, wantedOnce, tombstoneIsLost}},

	// The worker has the message: purging the queue does not keep it away.
	{"planner.after-purge", func(f *fleet) {
		p, w := f.taken("planner.after-purge")
		f.cancel("r1")
		f.finished("r1")
		w.letGo("worker.after-take")
		w.awaitLog("action was taken before")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "cancelled_by_user/1"})
		f.wantTiers(nothing, nothing)
		f.wantStarts(0)
		p.died(1)
	}, []edit{{"planner/leases.go", `			e.Revision, err = s.Leases.Create(ctx, key, &next, s.cfg.LeaseKeep)`, `			return held{}, nil`}}},

	{"planner.after-stopping", cancelled("planner.after-stopping"),
		[]edit{{"worker/lease.go", `	return &stopped{fmt.Sprintf("the lease is %s (%s)", now.Value.State, reason)}`, `	_ = reason
	return nil`}}},
	{"planner.after-halt", cancelled("planner.after-halt"), []edit{wantedIsLost, wantedOnce, tombstoneIsLost}},
	{"planner.after-dead-letter", givenUp("planner.after-dead-letter"), []edit{wantedIsLost, tombstoneIsLost}},
	{"planner.after-unlist", cancelled("planner.after-unlist"), []edit{wantedIsLost, wantedOnce, tombstoneIsLost}},

	{"planner.after-final-record", calmly("planner", "planner.after-final-record=die", "1"),
		[]edit{{"planner/load.go", `			s.tellLater(e.Value, e.Revision)`, `			_ = e`}}},

	{"planner.before-outcome", calmly("planner", "planner.before-outcome=die", "1"), []edit{notToldAgain, repeatNotTold}},

	{"planner.after-finished-outcome", calmly("planner", "planner.after-finished-outcome=die", "1"),
		[]edit{{"planner/load.go", `			s.finish(key, r)`, `			_, _ = key, r`}}},
}
