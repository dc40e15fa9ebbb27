package persister

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluice/messages"
)

// encodeWhole is what Encode must return: all of a manifest by one encoder.
func encodeWhole(t rapid.TB, m *Manifest) []byte {
	outputs := map[string]any{}
	for p, e := range m.Outputs {
		outputs[manifestKey(p)] = e
	}
	all := map[string]any{"repo": nil}
	for name, value := range m.extra {
		all[name] = value
	}
	all["workspace"], all["outputs"] = m.Workspace, outputs
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func encode(t rapid.TB, m *Manifest) []byte {
	data, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestManifestText: through any changes, a manifest's text is what one encoder
// makes of all its entries, and those that it was made from stay as they were.
func TestManifestText(t *testing.T) {
	t.Parallel()
	names := rapid.SampledFrom([]messages.Path{"a.csv", "b.csv", "d/c.csv", "d/e/f.txt", "<&>.csv", `"q".csv`, "é\u2028.csv", "\xff.csv", "base64:x", "a.csv.txt"})
	actions := rapid.SampledFrom([]string{"one", "two", "thrée"})
	draw := func(t *rapid.T) *Change {
		c := &Change{
			Job:       &messages.Job{ID: messages.NewJobID("r", rapid.String().Draw(t, "job")), Action: actions.Draw(t, "action"), By: "<u>"},
			Succeeded: rapid.Bool().Draw(t, "succeeded"), DeleteObsolete: rapid.Bool().Draw(t, "delete"),
			Actions: rapid.SliceOf(actions).Draw(t, "actions"),
		}
		for _, p := range rapid.SliceOfDistinct(names, rapid.ID).Draw(t, "outputs") {
			c.Outputs = append(c.Outputs, Output{
				Path: p, Tier: rapid.SampledFrom([]messages.Tier{messages.HighlySensitive, messages.ModeratelySensitive}).Draw(t, "tier"),
				Size: rapid.Int64Min(0).Draw(t, "size"), Digest: messages.Digest([]byte(p)), Time: time.Unix(0, rapid.Int64().Draw(t, "time")),
				Finding: Finding{Reason: rapid.SampledFrom([]string{"", "too <large>"}).Draw(t, "reason")},
			})
		}
		return c
	}
	rapid.Check(t, func(t *rapid.T) {
		m := NewManifest("ws")
		var err error
		if rapid.Bool().Draw(t, "not ours") {
			if m, err = ParseManifest([]byte(`{"future":{"outputs":{},"b":[1,2]},"outputs":{"a.csv":{"later":"<x>","action":"one"},"z":{}},"workspace":"w"}`)); err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 5).Draw(t, "changes") {
			before := encode(t, m)
			var inTheWay InTheWay
			if rapid.Bool().Draw(t, "in the way") {
				inTheWay.High = slices.Sorted(maps.Keys(m.Outputs))[:min(1, len(m.Outputs))]
				inTheWay.Medium = inTheWay.High
			}
			c := draw(t)
			if err := c.prepare(); err != nil {
				t.Fatal(err)
			}
			arranged, err := c.Arrange(m, inTheWay)
			if err != nil {
				continue // something is in the way
			}
			after := encode(t, arranged.Manifest)
			if want := encodeWhole(t, arranged.Manifest); !bytes.Equal(after, want) {
				t.Fatalf("written as\n%s\nwant\n%s", after, want)
			}
			for p, e := range arranged.Manifest.Outputs {
				if old := m.Outputs[p]; e != old && cmp.Equal(e, old, cmpopts.IgnoreFields(ManifestEntry{}, "text"), cmp.AllowUnexported(ManifestEntry{})) && !slices.Contains(c.entries, e) {
					t.Fatalf("%s was copied without being changed", p)
				}
			}
			if now := encode(t, m); !bytes.Equal(now, before) || !bytes.Equal(encodeWhole(t, m), before) {
				t.Fatalf("a change to a clone made\n%s\nof\n%s", now, before)
			}
			if m = arranged.Manifest; !rapid.Bool().Draw(t, "read again") {
				continue
			}
			if m, err = ParseManifest(after); err != nil {
				t.Fatal(err)
			}
			for p, e := range m.Outputs {
				if e.text == nil && len(e.extra) == 0 {
					t.Fatalf("the text of %s, which we wrote, is not known", p)
				}
			}
			if again := encode(t, m); !bytes.Equal(again, after) {
				t.Fatalf("read and written as\n%s\nwant\n%s", again, after)
			}
		}
	})
}
