package disk_test

import (
	"maps"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/messages"
	"sluice/persister"
)

// A change is what a job of TestAnyState brings to its workspace.
type change struct {
	action         string
	succeeded      bool
	deleteObsolete bool
	outputs        map[string]made
}

// inTheWay reports whether an output cannot lie where it should while there is
// something at q.
func (c change) inTheWay(q string, of func(made) bool) bool {
	for p, m := range c.outputs {
		if of(m) && (beneath(p, q) || beneath(q, p)) {
			return true
		}
	}
	return false
}

// dropped reports whether the action made an output that it no longer makes.
func (c change) dropped(before seen, p string) bool {
	e := before.manifest[messages.Path(p)]
	_, again := c.outputs[p]
	return e != nil && e.Action == c.action && !again && c.succeeded
}

// compare holds both tiers against the model.
func (w *workspace) compare(t *rapid.T, c change, before, after seen) {
	t.Helper()
	if diff := cmp.Diff(c.high(before), outputsOf(after.high)); diff != "" {
		t.Fatalf("highly sensitive tier (-model +got):\n%s", diff)
	}
	if diff := cmp.Diff(c.medium(before), outputsOf(after.medium)); diff != "" {
		t.Fatalf("moderately sensitive tier (-model +got):\n%s", diff)
	}
	if after.high["metadata/manifest.json"] != after.medium["metadata/manifest.json"] || after.high["metadata/manifest.json"] == "" {
		t.Fatalf("the tiers' manifests differ, or are missing")
	}
	for p, e := range after.manifest {
		if inTier(e) && before.medium[string(p)] != "" && after.medium[string(p)] == "" {
			t.Fatalf("the manifest says that %s is in the moderately sensitive tier, which this job has taken away", p)
		}
	}
	for p, m := range c.outputs {
		if e := after.manifest[messages.Path(p)]; e == nil || e.Action != c.action || string(e.Level) != m.tier {
			t.Fatalf("the manifest says of %s: %+v", p, e)
		}
	}
}

// high is what the highly sensitive tier should have.
func (c change) high(before seen) map[string]string {
	want := outputsOf(before.high)
	maps.DeleteFunc(want, func(q, _ string) bool {
		return c.inTheWay(q, func(made) bool { return true }) || c.deleteObsolete && c.dropped(before, q)
	})
	for p, m := range c.outputs {
		want[p] = "file " + m.content
	}
	return want
}

// medium is what the moderately sensitive tier should have.
func (c change) medium(before seen) map[string]string {
	want := outputsOf(before.medium)
	moderate := func(m made) bool { return m.tier == medium }
	goes := func(p string) bool { // an output that is not the project's any more
		return c.dropped(before, p) || before.high[p] != "" && c.inTheWay(p, func(made) bool { return true })
	}
	maps.DeleteFunc(want, func(q, _ string) bool {
		of, text := strings.CutSuffix(q, ".txt")
		about, real := before.manifest[messages.Path(of)], before.manifest[messages.Path(q)]
		m, output := c.outputs[q]
		message := text && withheld(about) && !inTier(real)
		switch {
		case c.inTheWay(q, moderate), inTier(real) && goes(q), message && goes(of):
			return true
		case output:
			// Of an output that is not there anything else is gone, but the message
			// about another one.
			return !m.shared() && !(message && !c.made(of))
		case text && c.made(of) && !inTier(real):
			return true // a new message, if there is one
		}
		return false
	})
	for p, m := range c.outputs {
		text := p + ".txt"
		if m.shared() {
			want[p] = "file " + m.content
		}
		if m.tier != medium || m.allowed {
			continue
		}
		real, again := c.outputs[text]
		folder := slices.ContainsFunc(slices.Collect(maps.Keys(c.outputs)), func(q string) bool { return moderate(c.outputs[q]) && beneath(q, text) })
		stays := inTier(before.manifest[messages.Path(text)]) && !again && !goes(text)
		if again && real.shared() || folder || stays || hasFolder(want, text) {
			continue
		}
		want[text] = messageAbout(p)
	}
	return want
}

// hasFolder reports whether a tier has a folder at p that is not empty.
func hasFolder(tier map[string]string, p string) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(tier)), func(q string) bool { return beneath(q, p) })
}

func (c change) made(p string) bool { _, ok := c.outputs[p]; return ok }

// outputsOf leaves metadata out, and of a message all but what it is about.
func outputsOf(tier map[string]string) map[string]string {
	out := map[string]string{}
	for p, content := range tier {
		if rest, ok := strings.CutPrefix(content, "file \nThe file:\n\n"); ok {
			about, _, _ := strings.Cut(rest, "\n")
			content = messageAbout(about)
		}
		if !beneath(p, "metadata") {
			out[p] = content
		}
	}
	return out
}

func messageAbout(about string) string { return "message about " + about }

// inTier and withheld say what a manifest has of the moderately sensitive tier:
// the output, or a message about it.
func inTier(e *persister.ManifestEntry) bool {
	return e != nil && string(e.Level) == medium && !e.Excluded && e.RemovedBy == ""
}

func withheld(e *persister.ManifestEntry) bool {
	return e != nil && string(e.Level) == medium && e.Excluded && e.RemovedBy == ""
}
