package worker_test

import (
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/worker"
)

// TestOutage: a lost connection cancels nothing, and a lease that expired
// meanwhile is revived.
func TestOutage(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		b := w.run(a)
		w.leases.break_(true, false)
		pass(10 * ttl)
		if got := w.leases.state(key(a)); got != "expired" {
			t.Fatalf("lease = %s, want it expired", got)
		}
		w.leases.break_(false, false)
		pass(ttl / 2)
		if got := w.leases.state(key(a)); got != messages.LeaseHeld {
			t.Errorf("lease = %s after the outage, want it revived", got)
		}
		// Writes whose answers are lost are one's own, too.
		w.leases.break_(false, true)
		pass(3 * ttl)
		w.leases.break_(false, false)
		pass(ttl)
		if n := b.stopped(); n != 0 {
			t.Errorf("the container was stopped %d times, want never", n)
		}
		b.end(worker.Exit{})
		synctest.Wait()
		diff(t, "stages", whole, w.out.stages())
		w.judge(a, messages.Persisted)
		w.end(r)
	})
}

// TestFenced: an attempt that was given up stops its container, hands over the
// log alone, and leaves the planner's word as it is.
func TestFenced(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		lease messages.Lease
		want  messages.LeaseState
		fast  bool
	}{
		{name: "fenced", lease: messages.Lease{State: messages.LeaseFenced, Owner: "planner", Nonce: "planner", Reason: "internal_error"}, want: messages.LeaseFenced},
		{name: "stopping", lease: messages.Lease{State: messages.LeaseStopping, Reason: "cancelled_by_user"}, want: messages.LeaseReleased},
		{name: "stopping, and told", lease: messages.Lease{State: messages.LeaseStopping, Reason: "cancelled_by_user"}, want: messages.LeaseReleased, fast: true},
		{name: "another claim's", lease: messages.Lease{State: messages.LeaseHeld, Owner: name, Nonce: "another"}, want: messages.LeaseHeld},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t *testing.T, w *world) {
				r := w.start(nil)
				a := newAction("a")
				b := w.run(a)
				b.say("said\n")
				w.leases.set(t, key(a), func(l *messages.Lease) {
					l.State, l.Reason = tc.lease.State, tc.lease.Reason
					if tc.lease.Owner != "" {
						l.Owner, l.Nonce = tc.lease.Owner, tc.lease.Nonce
					}
				})
				if tc.fast {
					w.controls <- &messages.Control{Kind: messages.ControlStop, Job: a.Job}
					synctest.Wait()
				} else {
					pass(ttl / 2)
				}
				if b.stopped() == 0 {
					t.Fatal("the container was not stopped")
				}
				files := w.files()
				if !files.Cancelled || files.Reason == "" || files.Listing.Count != 0 || files.Log.Bytes != 5 {
					t.Errorf("files = %+v, want the log alone, and why", files)
				}
				stages := w.out.stages()
				if stages[len(stages)-1] != messages.StageStopped {
					t.Errorf("stages = %v, want stopped at the end", stages)
				}
				if got := w.leases.state(key(a)); got != tc.want {
					t.Errorf("lease = %s, want %s", got, tc.want)
				}
				w.judge(a, messages.Discarded)
				diff(t, "left on the disk", []string(nil), w.left())
				w.end(r)
			})
		})
	}
}

// TestHardPool: without a confirmed renewal for a whole time to live the
// container is stopped, not before.
func TestHardPool(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		r := w.start(nil)
		a := newAction("a")
		a.Hard = true
		b := w.run(a)
		pass(10 * ttl) // well connected
		w.leases.break_(true, false)
		pass(ttl*3/4 - time.Second)
		w.leases.break_(false, false)
		pass(ttl)
		if n := b.stopped(); n != 0 {
			t.Fatalf("the container was stopped %d times by a short outage", n)
		}
		w.leases.break_(true, false)
		pass(ttl*3/4 - time.Second)
		if n := b.stopped(); n != 0 {
			t.Fatalf("the container was stopped %d times before a time to live was over", n)
		}
		pass(ttl/4 + 2*time.Second)
		if n := b.stopped(); n == 0 {
			t.Error("the container was not stopped a time to live after the last renewal")
		}
		w.leases.break_(false, false)
		synctest.Wait()
		w.judge(a, messages.Discarded)
		w.end(r)
	})
}
