package staging_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/worker/staging"
)

// TestLeave: what a failed attempt left is kept for as long as is set, over a
// restart too, and never more of them than the bound; without the setting, or
// when space is short, it goes at once.
func TestLeave(t *testing.T) {
	bothWays(t, func(t *testing.T, copied bool) {
		s := newSite(t, copied, tree{"code.R": "1"})
		none := func(messages.JobID, int) bool { return false }
		synctest.Test(t, func(t *testing.T) {
			open := func(keep time.Duration) *staging.Area {
				t.Helper()
				cfg := s.config(copied)
				cfg.Failed = keep
				a, err := staging.Open(cfg, s.code)
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			fail := func(a *staging.Area, name string) *messages.Action {
				t.Helper()
				action := newAction()
				action.Job = messages.NewJobID("request", name)
				w, err := a.Prepare(t.Context(), action)
				if err != nil {
					t.Fatal(err)
				}
				tree{"half.csv": "x"}.write(t, w.Mount)
				do(t, a.Release(w), a.Leave(action.Job, action.Attempt))
				return action
			}
			there := func(a *staging.Area, action *messages.Action) bool {
				_, err := os.Stat(filepath.Join(a.Dir(action.Job, action.Attempt), "files", "half.csv"))
				return err == nil
			}
			want := func(what string, a *staging.Area, action *messages.Action, want bool) {
				t.Helper()
				synctest.Wait()
				if got := there(a, action); got != want {
					t.Errorf("%s: is there: %t, want %t", what, got, want)
				}
				if _, err := os.Stat(a.Dir(action.Job, action.Attempt)); !want && err == nil {
					t.Errorf("%s: a folder is left", what)
				}
			}

			a := open(0)
			want("without the setting", a, fail(a, "off"), false)
			a = open(time.Hour)
			kept := fail(a, "kept")
			<-time.After(59 * time.Minute)
			do(t, a.Sweep(none))
			want("after most of an hour", a, kept, true)
			a = open(time.Hour) // another process, after a restart
			do(t, a.Sweep(none))
			want("after a restart", a, kept, true)
			<-time.After(2 * time.Minute)
			want("after an hour", a, kept, false)

			first := fail(a, "first")
			for i := range 20 {
				<-time.After(time.Second)
				fail(a, fmt.Sprintf("next-%d", i))
			}
			want("the oldest of too many", a, first, false)
			last := fail(a, "last")
			want("the newest of many", a, last, true)
			if !a.DropLeft() || a.DropLeft() {
				t.Error("DropLeft does not tell whether there was any")
			}
			want("when space is short", a, last, false)

			again := fail(a, "again")
			a = open(0)
			do(t, a.Sweep(none))
			want("once the setting is off", a, again, false)
			<-time.After(2 * time.Hour) // what is still to come, comes
		})
	})
}
