package persister_test

import (
	"os"
	"path/filepath"
	"testing"

	"sluice/persister/storetest"
)

// theirs is a manifest as the reference writes it, in the moderately sensitive
// tier only (agent/executors/local.py).
const theirs = `{
  "workspace": "ws", "repo": null,
  "outputs": {
    "out/old.csv": {"level": "moderately_sensitive", "job_id": "aaaaaaaaaaaaaaaa", "job_request": "old", "action": "a", "user": "ada",
      "repo": "https://github.com/opensafely/study", "commit": "c1", "size": 2, "timestamp": 1700000000.25, "content_hash": "h",
      "excluded": false, "message": null, "row_count": 1, "col_count": 1, "theirs": {"x": 1}},
    "out/other.csv": {"level": "highly_sensitive", "job_id": "bbbbbbbbbbbbbbbb", "job_request": "old", "action": "b", "user": "ada",
      "repo": "https://github.com/opensafely/study", "commit": "c1", "size": 2, "timestamp": 1700000000.0, "content_hash": "h",
      "excluded": false, "message": null, "row_count": null, "col_count": null, "out_of_date_action": true}
  }
}`

// TestWorkspaceOfTheReference: a workspace that the reference left is gone on
// with: its manifest is read, what it says of other actions stays, fields that
// only it knows included, and what an action no longer makes leaves the lower
// tier, though the reference put it there.
func TestWorkspaceOfTheReference(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for path, text := range map[string]string{
		filepath.Join(b.cfg.Medium, "ws", "metadata", "manifest.json"): theirs,
		filepath.Join(b.cfg.Medium, "ws", "out", "old.csv"):            "x\n",
		filepath.Join(b.cfg.High, "ws", "out", "old.csv"):              "x\n",
		filepath.Join(b.cfg.High, "ws", "out", "other.csv"):            "y\n",
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	j := b.plan(storetest.NewJob("ws", "a", "r1", medium, "out/new.csv"), "a", "b")
	b.persist(t, j, map[string]string{"out/new.csv": "n\n"})
	b.wantTrees(t, "ws", map[string]string{"out/old.csv": "x\n", "out/other.csv": "y\n", "out/new.csv": "n\n"}, map[string]string{"out/new.csv": "n\n"})
	if e := b.entry(t, "ws", "out/old.csv"); e["out_of_date_output"] != true || e["removed_from_moderately_sensitive_by"] != string(j.ID) || e["theirs"] == nil || e["timestamp"] != 1700000000.25 {
		t.Errorf("out/old.csv: %v", e)
	}
	if e := b.entry(t, "ws", "out/other.csv"); e["job_id"] != "bbbbbbbbbbbbbbbb" || e["out_of_date_action"] != false {
		t.Errorf("out/other.csv: %v", e)
	}
	if e := b.entry(t, "ws", "out/new.csv"); e["job_id"] != string(j.ID) {
		t.Errorf("out/new.csv: %v", e)
	}
}
