package persister_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
	"sluice/persister/storetest"
)

// goldenJob leaves an output of each kind: one for every check, one that
// passes, a highly sensitive one, one that no rule names, and one that a rule of
// each tier names.
func goldenJob(t *testing.T) (*bench, *messages.Job, *messages.Result) {
	t.Helper()
	b := newBench(t)
	b.checks.MaxSize, b.checks.MaxRows = 2000, 3
	before := b.plan(storetest.NewJob("ws", "analyse", "golden-1", medium, "out/renamed.csv"), "analyse", "extract")
	b.persist(t, before, map[string]string{"out/renamed.csv": "a\n1\n"})
	other := b.plan(storetest.NewJob("ws", "extract", "golden-1", high, "extract/*.arrow"), "analyse", "extract")
	b.persist(t, other, map[string]string{"extract/rows.arrow": "rows"})

	j := b.plan(storetest.NewJob("ws", "analyse", "golden-2", medium, "out/*", medium, "both/*", high, "both/x.csv", high, "model/*.rds"), "analyse")
	j.Dataset = "default"
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{
		"out/good.csv": "count,rate\n1,2\n", "out/figure.svg": "<svg/>", "out/patients.csv": "patient_id,x\n1,2\n", "out/rows.csv": "x\n1\n2\n3\n4\n",
		"out/large.txt": strings.Repeat("x", 2001), "out/wrong.rds": "r", "out/broken.csv": "a,b\n\xff\xff,2\n", "both/x.csv": "x\n1\n", "model/m.rds": "m", "left.tmp": "l",
	})
	if err := os.WriteFile(filepath.Join(storetest.Dir(b.cfg.Staging, j, 1), "container.json"), []byte(`{"Id":"c0ffee","Config":{"Labels":{"org.opencontainers.image.version":"v2","org.opencontainers.image.revision":"abc"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	m.Metrics = &messages.Metrics{Container: "c0ffee"}
	m.Metrics.Add(50, 100, 10, 10)
	m.Metrics.Add(150, 300, 10, 20)
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	return b, j, b.committed(t, j).Result
}

// TestGolden: what tools and people of the reference's sites read is as they
// know it, field by field. UPDATE=1 writes the golden files anew.
func TestGolden(t *testing.T) {
	t.Parallel()
	b, j, _ := goldenJob(t)
	for golden, path := range map[string]string{
		"manifest.json":    filepath.Join(b.cfg.Medium, "ws", "metadata", "manifest.json"),
		"metadata.json":    b.record(j, "1", "metadata.json"),
		"analyse.log":      filepath.Join(b.cfg.Medium, "ws", "metadata", "analyse.log"),
		"patients.csv.txt": filepath.Join(b.cfg.Medium, "ws", "out", "patients.csv.txt"),
		"rows.csv.txt":     filepath.Join(b.cfg.Medium, "ws", "out", "rows.csv.txt"),
		"large.txt.txt":    filepath.Join(b.cfg.Medium, "ws", "out", "large.txt.txt"),
		"wrong.rds.txt":    filepath.Join(b.cfg.Medium, "ws", "out", "wrong.rds.txt"),
		"broken.csv.txt":   filepath.Join(b.cfg.Medium, "ws", "out", "broken.csv.txt"),
	} {
		got := readFile(t, path)
		file := filepath.Join("testdata", "golden", golden)
		if os.Getenv("UPDATE") != "" {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(readFile(t, file), got); diff != "" {
			t.Errorf("%s (-golden +got):\n%s", golden, diff)
		}
	}
}

// Fields of the reference and their kinds (agent/executors/local.py at dd0c916:
// get_job_metadata, METADATA_DEFAULTS, update_manifest); "?" may be null.
var (
	theirEntry = map[string]string{
		"level": "string", "job_id": "string", "job_request": "string", "action": "string", "user": "string", "repo": "string", "commit": "string",
		"size": "number", "timestamp": "number", "content_hash": "string", "excluded": "bool", "message": "string?", "row_count": "number?", "col_count": "number?",
	}
	theirMetadata = map[string]string{
		"outputs": "object", "unmatched_patterns": "array", "unmatched_outputs": "array", "status_message": "string", "hint": "string?", "timestamp_ns": "number",
		"job_definition_id": "string", "job_definition_rap_id": "string", "task_id": "string", "created_at": "number", "user": "string", "completed_at": "number",
		"docker_image_id": "string?", "expected_image_id": "string", "exit_code": "string", "oom_killed": "bool", "container_metadata": "object?", "commit": "string",
		"database_name": "string?", "action_version": "string", "action_revision": "string", "action_created": "string", "base_revision": "string", "base_created": "string",
		"level4_excluded_files": "object", "cancelled": "bool", "error": "bool", "job_metrics": "object",
	}
	ourEntry    = []string{"out_of_date_action", "out_of_date_output", "removed_from_moderately_sensitive_by"}
	ourMetadata = []string{"attempt", "note", "raised", "refused", "timed_out", "worker"}
)

// TestSchema: the golden files have each of the reference's fields, of its kind,
// and of others only those that are documented.
func TestSchema(t *testing.T) {
	t.Parallel()
	var manifest struct {
		Workspace *string                   `json:"workspace"`
		Repo      json.RawMessage           `json:"repo"`
		Outputs   map[string]map[string]any `json:"outputs"`
	}
	var metadata map[string]any
	for name, v := range map[string]any{"manifest.json": &manifest, "metadata.json": &metadata} {
		if err := json.Unmarshal([]byte(readFile(t, filepath.Join("testdata", "golden", name))), v); err != nil {
			t.Fatal(err)
		}
	}
	if manifest.Workspace == nil || string(manifest.Repo) != "null" || len(manifest.Outputs) < 10 {
		t.Errorf("manifest: %+v", manifest)
	}
	for name, entry := range manifest.Outputs {
		wantFields(t, "output "+name, entry, theirEntry, ourEntry)
	}
	wantFields(t, "metadata", metadata, theirMetadata, ourMetadata)
	for name, field := range map[string]string{"out/renamed.csv": "out_of_date_output", "extract/rows.arrow": "out_of_date_action"} {
		if manifest.Outputs[name][field] != true {
			t.Errorf("%s of %s: got %v, want true", field, name, manifest.Outputs[name][field])
		}
	}
}

func wantFields(t *testing.T, what string, got map[string]any, theirs map[string]string, ours []string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(theirs)) {
		kind, null := strings.CutSuffix(theirs[name], "?")
		value, there := got[name]
		is := map[string]string{"float64": "number", "map[string]interface {}": "object", "[]interface {}": "array", "<nil>": "null"}[fmt.Sprintf("%T", value)]
		if is == "" {
			is = fmt.Sprintf("%T", value)
		}
		if !there || is != kind && !(null && is == "null") {
			t.Errorf("%s: field %s is %s, want %s", what, name, is, theirs[name])
		}
	}
	for name := range got {
		if theirs[name] == "" && !slices.Contains(ours, name) {
			t.Errorf("%s: field %s is nobody's", what, name)
		}
	}
}

// TestEachCheck: every check keeps its file out of the moderately sensitive
// tier, leaves a message there, is told in the manifest and in the outcome, and
// keeps nothing else back.
func TestEachCheck(t *testing.T) {
	t.Parallel()
	b, j, result := goldenJob(t)
	withheld := map[string]string{"out/patients.csv": "patient_id", "out/rows.csv": "row count (4)", "out/large.txt": "larger", "out/wrong.rds": "type of .rds", "out/broken.csv": "could not be read"}
	told := map[string]string{}
	for _, w := range result.Withheld {
		told[string(w.Path)] = w.Reason
	}
	if result.Withhelds != len(withheld) || len(told) != len(withheld) || result.Code() != messages.Success {
		t.Errorf("result: %d withheld (%v), code %s", result.Withhelds, told, result.Code())
	}
	shared := b.tree(t, b.cfg.Medium, "ws")
	record := readFile(t, b.record(j, "1", "logs.txt"))
	for name, reason := range withheld {
		e := b.entry(t, "ws", name)
		if message, _ := e["message"].(string); e["excluded"] != true || !strings.Contains(message, reason) || told[name] != message || !strings.Contains(record, message) {
			t.Errorf("%s: manifest %v, outcome %q; want both, and the log, to say %q", name, e, told[name], reason)
		}
		if _, there := shared[name]; there || !strings.Contains(shared[name+".txt"], name) {
			t.Errorf("%s: the tier has %v", name, slices.Sorted(maps.Keys(shared)))
		}
		delete(shared, name+".txt")
	}
	if diff := cmp.Diff([]string{"out/figure.svg", "out/good.csv"}, slices.Sorted(maps.Keys(shared))); diff != "" {
		t.Errorf("what passes (-want +got):\n%s", diff)
	}
	if got := len(b.tree(t, b.cfg.High, "ws")); got != 11 {
		t.Errorf("the highly sensitive tier has %d files, want all 11", got)
	}
}
