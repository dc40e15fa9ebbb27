package planner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/messages"
	"sluice/planner"
)

// imagesFunc is a registry.
type imagesFunc func(image string) (string, error)

func (f imagesFunc) Digest(_ context.Context, image string) (string, error) { return f(image) }

// TestPins: a job runs what its image's name stood for when it was planned; a
// registry that is down holds the request up, and an image that is not there
// matters to those requests only that need it.
func TestPins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{Fleet: newFleet(), t: t, cfg: planner.DefaultConfig()}
		b.Study(commit, diamond)
		digest, down := "sha256:"+strings.Repeat("1", 64), errors.New("no route")
		ports := b.Connect(0, false, nil).Ports()
		ports.Images = imagesFunc(func(image string) (string, error) {
			switch {
			case down != nil:
				return "", down
			case image == "r:v2":
				return "", messages.Failf(messages.JobError, "image r:v2 is not available")
			}
			return digest, nil
		})
		b.serve(ports)
		defer b.stop()
		w := b.worker("w1", 1)
		b.ask("r1", "alone")
		if len(b.Queued()) != 0 {
			t.Error("an action whose image is not known was published")
		}
		down = nil
		w.Announce(0)
		b.sleep(10 * time.Minute)
		w.Announce(0)
		first := b.take(w)
		digest = "sha256:" + strings.Repeat("2", 64) // the name moves on
		if first.Digest != "sha256:"+strings.Repeat("1", 64) || b.job("r1", "alone").Digest != first.Digest {
			t.Errorf("pinned to %q", first.Digest)
		}
		w.Persist(first, ok)
		b.wantCode("r1", "alone", messages.Success)
		b.ask("r2", "alone")
		if again := b.take(w); again.Digest != digest {
			t.Errorf("the next job is pinned to %q, want %q", again.Digest, digest)
		}
		b.ask("r3", "end")
		if o := b.last("r3", messages.OutcomeRejected); o.Code != messages.JobError || !strings.Contains(strings.Join(o.Reasons, " "), "image r:v2 is not available") {
			t.Errorf("of an image that is not there: %+v", o)
		}
	})
}

// TestRegistryHangs: requests whose images nothing can be found out about wait,
// however many they are; other projects, and other actions of the same project,
// do not.
func TestRegistryHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{Fleet: newFleet(), t: t, cfg: planner.DefaultConfig()}
		digest := "sha256:" + strings.Repeat("1", 64)
		ports := b.Connect(0, false, nil).Ports()
		ports.Images = hangingImages{"hangs:v1", digest}
		b.serve(ports)
		defer b.stop()
		ask := func(id messages.RequestID, commit, study, action string) {
			b.Study(commit, study)
			r := &messages.Request{ID: id, Backend: "tpp", Workspace: "ws-" + string(id), Actions: []string{action}}
			r.Source = messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: commit}
			b.Send(b.t, r.Subject(), r)
			synctest.Wait()
		}
		const study = `
version: 5
actions:
  bad:
    run: hangs:v1 one
    outputs: {highly_sensitive: {a: a.csv}}
  good:
    run: python:v2 two
    outputs: {highly_sensitive: {b: b.csv}}
`
		const many = 40 // more than are fetched at once
		for i := range many {
			ask(messages.RequestID(fmt.Sprintf("bad%d", i)), fmt.Sprintf("%040x", i+1), study, "bad")
		}
		ask("good", fmt.Sprintf("%040x", many+1), strings.Replace(study, "hangs:v1", "r:v2", 1), "good")
		// Each holds the queue up for as long as a slow project file may.
		b.sleep((many + 1) * b.cfg.SourceWait)
		if o := b.last("good", messages.OutcomeAccepted); o == nil {
			t.Error("a request that needs nothing of what hangs waits with the others")
		}
		ask("mixed", fmt.Sprintf("%040x", 1), study, "good")
		b.sleep(2 * time.Minute)
		if o := b.last("mixed", messages.OutcomeAccepted); o == nil {
			t.Error("an action whose image is known waits for another's")
		}
		b.sleep(2 * b.cfg.SourceGiveUp)
		o := b.last("bad7", messages.OutcomeRejected)
		if o == nil || !strings.Contains(strings.Join(o.Reasons, " "), "the registry of images could not be asked for 1h0m0s") {
			t.Errorf("of a request that waits for too long: %+v", o)
		}
	})
}

// hangingImages is a registry that never answers about one image.
type hangingImages struct{ hangs, digest string }

func (h hangingImages) Digest(ctx context.Context, image string) (string, error) {
	if image == h.hangs {
		<-ctx.Done()
		return "", ctx.Err()
	}
	return h.digest, nil
}
