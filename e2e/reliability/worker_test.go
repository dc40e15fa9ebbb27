package reliability

import (
	"time"

	"sluice/messages"
)

// Edits that several scenes need.
var (
	// An attempt that somebody has claimed is taken all the same.
	claimedTwice = []edit{
		{"worker/lease.go", `	case !h.mine(now.Value):`, `	case false:`},
		{"worker/lease.go", `	return &stopped{fmt.Sprintf("the lease is %s (%s)", now.Value.State, reason)}`, `	_ = reason
	return nil`},
	}
	notGivenBack = []edit{{"worker/resume.go", `		return a.fail(fmt.Errorf("the worker was restarted while the attempt was %s, and it has no container", a.entry.Phase))`, `		_ = fmt.Errorf
		return nil`}}
	notFollowed    = []edit{{"worker/resume.go", `	case box == nil:`, `	case true:`}}
	notHandedOver  = edit{"worker/resume.go", `		return a.perform() // again: the persister answers again`, `		return nil`}
	stagingNotGone = []edit{{"worker/attempt.go", `	return errors.Join(undone, a.hold.release(a.life), giveUp(a.id))`, `	_ = giveUp
	return errors.Join(undone, a.hold.release(a.life), a.w.journal.remove(a.id))`}}
)

// running runs an action of four seconds, which prints forty lines, on a worker
// that dies: one attempt, one container, a whole log.
func running(faults ...string) func(*fleet) { return runningUntil(nil, faults...) }

// runningLate is running for a worker whose next life begins when its job has
// ended: it hears no verdict unless it asks for one.
func runningLate(fault string) func(*fleet) {
	return runningUntil(func(f *fleet) { f.seen("r1", "long", messages.Success) }, fault)
}

func runningUntil(before func(*fleet), faults ...string) func(*fleet) {
	return func(f *fleet) {
		w := f.worker("worker", faults...)
		if before != nil {
			w.before = func() { before(f) }
		}
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.request("r1", "long")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"long": "succeeded/1"})
		f.wantTiers(long, nothing)
		f.wantLog("r1", "long", lines(40))
		f.wantStarts(1)
		f.wantDead(0, 0)
		w.died(len(faults))
	}
}

var workerScenes = []scene{
	{"worker.after-take", calmly("worker", "worker.after-take=die", "1"),
		[]edit{{"worker/take.go", `	fault.At("worker.after-take")`, `	w.settle(context.WithoutCancel(ctx), list[0], nil)
	fault.At("worker.after-take")`}}},

	{"worker.after-claim", calmly("worker", "worker.after-claim=die", "2"),
		[]edit{{"worker/lease.go", `h.leases.Create(ctx, h.key, &h.lease, h.ttl)`, `h.leases.Create(ctx, h.key, &h.lease, 24*time.Hour)`}}},

	// Its message comes to another worker.
	{"worker.after-journal", func(f *fleet) {
		w, other := f.worker("worker", "worker.after-journal=die"), f.worker("other")
		w.before = func() {
			other.start()
			other.awaitLog("action was taken before")
		}
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.request("r1", "make")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "succeeded/2"})
		f.wantTiers(highFirst, mediumFirst)
		f.wantStarts(1)
		w.died(1)
	}, claimedTwice},

	{"worker.after-ack", calmly("worker", "worker.after-ack=die", "2"), notGivenBack},
	{"worker.between-code-and-inputs", calmly("worker", "worker.between-code-and-inputs=die", "2"), stagingNotGone},
	{"worker.after-stage", calmly("worker", "worker.after-stage=die", "2"), stagingNotGone},
	{"worker.before-start", calmly("worker", "worker.before-start=die", "2"), notGivenBack},

	{"worker.between-create-and-start", calmly("worker", "worker.between-create-and-start=die", "2"),
		[]edit{{"worker/docker/container.go", `	if s.Running || s.Status == container.StateCreated {`, `	if s.Running {`}}},

	{"worker.after-start", running("worker.after-start=die"), notFollowed},

	// Away for longer than the lease lives, and not as long as the grace.
	{"worker.before-renewal", func(f *fleet) {
		w := f.worker("worker", "worker.before-renewal=hang")
		w.pause = f.ttl + time.Second
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.request("r1", "long")
		w.awaitHit("worker.before-renewal")
		f.seen("r1", "long", messages.Executing)
		w.kill()
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"long": "succeeded/1"})
		f.wantTiers(long, nothing)
		f.wantLog("r1", "long", lines(40))
		f.wantStarts(1)
	},
		[]edit{{"worker/lease.go", `	case now.Expired || now.Value == nil:`, `	case now.Expired || now.Value == nil:
		h.over, h.gone = true, true
		if h.over {
			return &stopped{"it has expired"}
		}`}}},

	{"worker.after-chunk", running("worker.after-chunk=die@2"),
		[]edit{{"worker/logs.go", `id := fmt.Sprintf("log/%s/%d/%d", a.Job, a.Attempt, offset)`, `id := fmt.Sprintf("log/%s/%d/%d", a.Job, time.Now().UnixNano(), offset)`}}},

	{"worker.after-exit", running("worker.after-exit=die"), notFollowed},
	{"worker.after-inspect", running("worker.after-inspect=die"), notFollowed},
	{"worker.after-run-before-publish", running("worker.after-run-before-publish=die"), []edit{notHandedOver}},
	{"worker.after-publish", runningLate("worker.after-publish=die"), []edit{notHandedOver}},
	{"worker.after-release", runningLate("worker.after-release=die"), []edit{notHandedOver}},

	{"worker.before-give-up", func(f *fleet) {
		w := f.whole("worker", "worker.after-ack=die", "worker.before-give-up=die")
		f.calm("2")
		w.died(2)
	}, notGivenBack},

	{"worker.after-verdict", running("worker.after-verdict=die"), []edit{notHandedOver}},
	{"worker.after-staging-removed", running("worker.after-staging-removed=die"), []edit{notHandedOver}},

	{"worker.before-resume", running("worker.after-start=die", "worker.before-resume=die"),
		[]edit{{"worker/entry.go", `		entries = append(entries, e)`, `		entries = append(entries, e)
		_ = os.Remove(path)`}}},
}

// parkedPoints are those at which it matters how a container was started.
var parkedPoints = []string{
	"worker.before-start", "worker.after-start", "worker.before-renewal", "worker.after-chunk", "worker.after-exit",
	"worker.after-run-before-publish", "worker.after-publish", "worker.after-release", "worker.before-give-up", "worker.before-resume",
}
