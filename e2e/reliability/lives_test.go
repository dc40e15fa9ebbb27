package reliability

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/messages"
)

// TestLongJob: an action goes on through two restarts of its worker, a kill -9
// of it, and a kill -9 of the server: one attempt, one container, a whole log.
// The container runs at each blow, and ends only when it is let through its
// gate. For the two minutes of a person's own look: -run TestLongJob -long 2m.
func TestLongJob(t *testing.T) {
	scene{"long-job", func(f *fleet) {
		server := f.killable()
		w := f.worker("worker")
		w.args = append(w.args, "--drain", "100ms") // it leaves the container to its next life
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.request("r1", "gated")
		f.seen("r1", "gated", messages.Executing)
		box := f.running()
		taken := 0
		again := func(blow func()) func() { // the next life must have the attempt before it is struck
			return func() {
				blow()
				taken++
				w.awaitLogs("attempt of an earlier run is taken up", taken)
			}
		}
		blows := []func(){again(w.restart), again(w.kill), server.kill, again(w.restart)}
		for i, blow := range blows {
			f.pass(*longest / time.Duration(len(blows)))
			if now := f.running(); now != box {
				f.fatalf("before blow %d container %q runs, want %q", i+1, now, box)
			}
			before := f.lease("r1", "gated")
			blow()
			f.await("the lease is renewed after the blow", func() error {
				if now := f.lease("r1", "gated"); !now.After(before) {
					return fmt.Errorf("it was renewed at %s", now)
				}
				return nil
			})
		}
		if now := f.running(); now != box {
			f.fatalf("after all blows container %q runs, want %q", now, box)
		}
		f.openGate(box)
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"gated": "succeeded/1"})
		f.wantGated("r1", nothing, nothing)
		f.wantStarts(1)
		f.wantDead(0, 0)
		w.died(3)
		server.died(1)
	}, notFollowed}.run(t)
}

// running returns the ids of the fleet's containers that run.
func (f *fleet) running() string {
	out, err := exec.Command("docker", "ps", "-q", "--filter", "label=sluice.backend="+f.backend, "--filter", "status=running").Output()
	if err != nil {
		f.fatalf("docker ps: %v", err)
	}
	return strings.TrimSpace(string(out))
}

// openGate lets the action gated end.
func (f *fleet) openGate(box string) {
	if out, err := exec.Command("docker", "exec", box, "touch", "gate").CombinedOutput(); err != nil {
		f.fatalf("docker exec: %v: %s", err, out)
	}
}

// wantGated compares what the action gated left, beside other files, and its log.
func (f *fleet) wantGated(id messages.RequestID, high, medium map[string]string) {
	n := f.printedLines()
	f.wantTiers(and(high, map[string]string{"output/gated.csv": fmt.Sprintln(n)}), medium)
	f.wantLog(id, "gated", lines(n))
}

// runningNow waits for a container to run, and returns its id.
func (f *fleet) runningNow() (box string) {
	f.await("a container runs", func() error {
		if box = f.running(); box == "" {
			return errors.New("none does")
		}
		return nil
	})
	return box
}

// printedLines is how many lines the action gated has printed, as it says.
func (f *fleet) printedLines() int {
	data, err := os.ReadFile(filepath.Join(f.high(), "ws", "output", "gated.csv"))
	if err != nil {
		f.fatalf("%v", err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || n < 1 {
		f.fatalf("gated says that it has printed %q lines (%v)", data, err)
	}
	return n
}

// lease is when the lease of an action's first attempt was written last.
func (f *fleet) lease(id messages.RequestID, action string) (at time.Time) {
	f.await("the lease can be read", func() error {
		e, err := f.conn.LeasesRegister().Get(f.ctx, messages.LeaseKey(f.backend, messages.NewJobID(id, action), 1))
		at = e.At
		return err
	})
	return at
}

// pass lets time pass.
func (f *fleet) pass(d time.Duration) {
	select {
	case <-time.After(d):
	case <-f.ctx.Done():
		f.fatalf("the play's time is over")
	}
}

// TestFrozenWorker: a worker that is frozen for longer than lease and grace,
// while its container ends and the job is done elsewhere, changes nothing when
// it thaws: its files lose, its staging goes, a line of its log says so.
func TestFrozenWorker(t *testing.T) {
	scene{"frozen-worker", func(f *fleet) {
		w, other := f.worker("worker"), f.worker("other")
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.request("r1", "gated")
		f.seen("r1", "gated", messages.Executing)
		w.signal(syscall.SIGSTOP)
		f.openGate(f.running())
		f.await("the container has ended", func() error {
			if box := f.running(); box != "" {
				return fmt.Errorf("%s runs", box)
			}
			return nil
		})
		other.start()
		f.openGate(f.runningNow())
		f.finished("r1")
		f.wantJobs("r1", map[string]string{"gated": "succeeded/2"})
		if entries, err := os.ReadDir(filepath.Join(f.staging(), string(f.job("r1", "gated").ID))); err != nil || len(entries) == 0 {
			f.errorf("the frozen attempt's staging is gone already (%v): nothing was tried", err)
		}
		w.signal(syscall.SIGCONT)
		f.settled()
		f.wantJobs("r1", map[string]string{"gated": "succeeded/2"})
		f.wantGated("r1", nothing, nothing)
		f.wantStarts(2)
		w.wantOneLine("another attempt's files are the job's; these were dropped")
	}, []edit{
		{"persister/attempt.go", `	case a.commit != nil && a.commit.Attempt != a.at.Number:`, `	case false:`},
		claimedTwice[1],
	}}.run(t)
}

// TestFrozenWorkerWins: the other order. Its files come before those of the
// later attempt: they win, and the later attempt loses.
func TestFrozenWorkerWins(t *testing.T) {
	scene{"frozen-worker-wins", func(f *fleet) {
		const listed = "worker.after-run-before-publish"
		w, other := f.worker("worker", listed+"=hang"), f.worker("other")
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.request("r1", "gated")
		f.seen("r1", "gated", messages.Executing)
		f.openGate(f.running())
		w.awaitHit(listed)
		w.signal(syscall.SIGSTOP)
		other.start()
		f.runningNow()
		w.letGo(listed)
		w.signal(syscall.SIGCONT)
		f.await("the first attempt's files are the job's", func() error {
			e, err := f.conn.CommitsRegister().Get(f.ctx, messages.CommitKey(f.backend, messages.NewJobID("r1", "gated")))
			if err == nil && e.Value.Attempt != 1 {
				f.fatalf("attempt %d has the commit", e.Value.Attempt)
			}
			return err
		})
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"gated": "succeeded/2"})
		n := f.printedLines()
		f.wantTiers(map[string]string{"output/gated.csv": fmt.Sprintln(n)}, nothing)
		f.wantStarts(2)
		other.wantOneLine("another attempt's files are the job's; these were dropped")
	}, []edit{
		{"planner/events.go", `	case c != nil:`, `	case c != nil && c.Attempt == j.record.Attempt:`},
		{"planner/reconcile.go", `if f.commit != nil {`, `if f.commit != nil && f.commit.Attempt == j.record.Attempt {`},
	}}.run(t)
}

// TestTakeover: another planner and another persister go on within seconds.
func TestTakeover(t *testing.T) {
	scene{"takeover", func(f *fleet) {
		p, s := f.planner("planner"), f.persister("persister", "persister.after-commit=die")
		p.pause, s.pause = time.Hour, time.Hour // they do not come back
		p.start()
		p.awaitLog("this planner is active")
		other := f.planner("other-planner")
		f.start(other, f.worker("worker"), s)
		other.awaitLog("another planner is active")
		f.request("r1", "use")
		s.awaitHit("persister.after-commit")
		f.persister("other-persister").start()
		p.signal(syscall.SIGKILL)
		began := time.Now()
		other.awaitLog("this planner is active")
		if took := time.Since(began); took > time.Minute {
			f.errorf("another planner took over after %s", took)
		}
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "succeeded/1", "use": "succeeded/1"})
		f.wantTiers(and(highFirst, used), mediumFirst)
		f.wantStarts(2)
	}, []edit{{"planner/leader.go", `p.Leader.Create(ctx, messages.LeaderKey, &r.value, p.cfg.LeaderTTL)`, `p.Leader.Create(ctx, messages.LeaderKey, &r.value, 24*time.Hour)`}, {"planner/leader.go", `p.Leader.Update(ctx, messages.LeaderKey, &r.value, r.revision, p.cfg.LeaderTTL)`, `p.Leader.Update(ctx, messages.LeaderKey, &r.value, r.revision, 24*time.Hour)`}}}.run(t)
}

// wantOneLine reports a text that is not in one line of the process's log.
func (p *process) wantOneLine(text string) {
	if n := strings.Count(p.log(), text); n != 1 {
		p.f.errorf("%s logs %d times %q, want one line", p.name, n, text)
	}
}
