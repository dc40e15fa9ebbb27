package persister

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"sluice/messages"
)

// A manifest of the reference, and of a later version of ours, is read and
// written without losing what this version does not know.
func TestManifestKeepsTheUnknown(t *testing.T) {
	t.Parallel()
	const old = `{
  "workspace": "ws",
  "repo": null,
  "future": [1, 2],
  "outputs": {
    "a.csv": {"level": "highly_sensitive", "job_id": "j", "job_request": "r", "action": "a", "user": "u", "repo": "https://x", "commit": "c",
      "size": 1, "timestamp": 1732098600.25, "content_hash": "00", "excluded": false, "message": null, "row_count": null, "col_count": 3,
      "out_of_date_action": false, "later": {"x": "<&>"}},
    "base64:/w==": {"level": "moderately_sensitive"}
  }
}`
	m, err := ParseManifest([]byte(old))
	if err != nil {
		t.Fatal(err)
	}
	if e := m.Outputs["\xff"]; e == nil || !e.shared() {
		t.Errorf("the output that is not UTF-8: got %+v", m.Outputs)
	}
	delete(m.Outputs, "\xff")
	data, err := m.Clone().Encode()
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(old), &want); err != nil {
		t.Fatal(err)
	}
	delete(want["outputs"].(map[string]any), "base64:/w==")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(string(data), `"x": "<&>"`) {
		t.Errorf("escaped for HTML: %s", data)
	}
}

func TestManifestErrors(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "[]", `{"outputs": []}`, `{"outputs": {"a": 1}}`, `{"outputs": {"base64:!": {}}}`, `{"outputs": {"base64:YQ==": {}}}`, `{"workspace": 1}`} {
		if m, err := ParseManifest([]byte(bad)); err == nil {
			t.Errorf("ParseManifest(%s): got %+v, want an error", bad, m)
		}
	}
}

func TestManifestKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := messages.Path(rapid.OneOf(rapid.String(), paths, rapid.Just("base64:x")).Draw(t, "path"))
		key := manifestKey(p)
		data, err := json.Marshal(key)
		if err != nil {
			t.Fatal(err)
		}
		var back string
		if err := json.Unmarshal(data, &back); err != nil {
			t.Fatal(err)
		}
		if got, err := parseManifestKey(back); got != p || err != nil {
			t.Fatalf("path %q became %q: %v", p, got, err)
		}
	})
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"workspace": "w", "repo": null, "outputs": {"a": {"level": "x", "z": 1}}, "more": 1}`))
	f.Add([]byte(`{"outputs": {"a": null, "b": {"LEVEL": "x"}, "c": {"sizE": 1, "size": 2}, "d": {"user": "\ufffd"}, "e": {"timestamp": 1.50}, "\ufffd": {}}}`))
	f.Add([]byte("{\"outputs\": {\"a\": {\"user\": \"\xff\"}}}"))
	known, err := (&ManifestEntry{User: "<u>"}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(slices.Concat([]byte(`{"outputs": {"a": `), known, []byte(`, "b": `), known[:len(known)-6], []byte(",\n      \"later\": 1\n    }}}")))
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		raw, outputs := map[string]json.RawMessage{}, map[string]*ManifestEntry{}
		if err := json.Unmarshal(data, &raw); err != nil {
			t.Fatal(err)
		}
		if value, ok := raw["outputs"]; ok {
			if err := json.Unmarshal(value, &outputs); err != nil {
				t.Fatal(err)
			}
		}
		for key, want := range outputs { // each read by one decoder
			p, err := parseManifestKey(key)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = &ManifestEntry{}
			}
			if diff := cmp.Diff(want, m.Outputs[p], cmpopts.IgnoreFields(ManifestEntry{}, "text"), cmp.AllowUnexported(ManifestEntry{})); diff != "" {
				t.Errorf("%q (-want +got):\n%s", key, diff)
			}
		}
		whole := encodeWhole(t, m)
		once, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(once, whole) {
			t.Errorf("written as\n%s\nwant\n%s", once, whole)
		}
		m, err = ParseManifest(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, once)
		}
		if twice, err := m.Encode(); err != nil || string(twice) != string(once) {
			t.Errorf("written twice: %v\n%s\n%s", err, once, twice)
		}
	})
}

// Whatever the result holds, it fits into a commit, and ends the job as it
// would have.
func TestResultFits(t *testing.T) {
	t.Parallel()
	long := messages.Path(strings.Repeat(strings.Repeat("\xff", 250)+"/", 15) + "x.csv")
	var m Matching
	outputs := make([]Output, 30)
	for i := range outputs {
		outputs[i] = Output{Path: long, Tier: messages.ModeratelySensitive, Size: 1 << 62, Finding: Finding{Reason: "r"}}
	}
	for range 30 {
		m.Leftover, m.Raised = append(m.Leftover, long), append(m.Raised, long)
		m.Refused = append(m.Refused, messages.FileProblem{Path: long, Reason: "link"})
	}
	for range 200 {
		m.Unmatched = append(m.Unmatched, messages.Unmatched{Pattern: strings.Repeat("p", 900_000), Nearest: []messages.Path{long, long, long}})
	}
	r := newResult(&messages.Files{}, m, outputs)
	if r.Code() != messages.UnmatchedPatterns || r.Leftovers != 30 || r.Withhelds != 30 || r.Refuseds != 30 || r.Raiseds != 30 || r.Files != 30 || r.Bytes <= 0 {
		t.Errorf("result: got %d leftovers, %d withheld, %d refused, %d raised, %d files of %d bytes, code %s", r.Leftovers, r.Withhelds, r.Refuseds, r.Raiseds, r.Files, r.Bytes, r.Code())
	}
	commit := &messages.Commit{Job: messages.NewJobID("r", "a"), Attempt: 1, Manifest: messages.Digest(nil), Result: r}
	if data, err := messages.Encode(commit); err != nil || len(data) > messages.MaxResult+1000 {
		t.Errorf("commit: %d bytes, %v", len(data), err)
	}
}
