package persister_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
	"sluice/persister/storetest"
)

func TestPersist(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "extract", "r1", high, "output/*.csv", medium, "output/table.csv", medium, "report.html", medium, "big.csv")
	r := b.persist(t, j, map[string]string{
		"output/data.csv": "patient_id\n1\n", "output/table.csv": "x\n1\n", "report.html": "<p>", "big.csv": "Patient_ID\n1\n", "scratch/tmp.txt": "t",
	})
	b.wantTrees(t, "ws",
		map[string]string{"output/data.csv": "patient_id\n1\n", "output/table.csv": "x\n1\n", "report.html": "<p>", "big.csv": "Patient_ID\n1\n"},
		map[string]string{"report.html": "<p>", "big.csv.txt": readFile(t, filepath.Join(b.cfg.Medium, "ws", "big.csv.txt"))})
	want := &messages.Result{
		Started: storetest.Epoch.Add(time.Second), Finished: storetest.Epoch.Add(time.Minute), Worker: "w1", ImageDigest: messages.Digest([]byte("image")),
		Files: 4, Bytes: 13 + 4 + 3 + 13, Moderate: 1, LogBytes: r.LogBytes,
		Leftover: []messages.Path{"scratch/tmp.txt"}, Leftovers: 1,
		Withheld: []messages.FileProblem{{Path: "big.csv", Reason: "File has patient_id column"}}, Withhelds: 1,
		Raised: []messages.Path{"output/table.csv"}, Raiseds: 1,
	}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	if r.Code() != messages.Success {
		t.Errorf("code: got %s, want %s", r.Code(), messages.Success)
	}

	manifest := readFile(t, b.record(j, "manifest.json"))
	if got, want := messages.Digest([]byte(manifest)), b.committed(t, j).Manifest; got != want {
		t.Errorf("digest of the job's manifest: got %s, the commit says %s", got, want)
	}
	var jm messages.JobManifest
	if err := messages.Decode([]byte(manifest), &jm); err != nil {
		t.Fatal(err)
	}
	if len(jm.Files) != 4 || jm.Files[0].Path != "big.csv" || jm.Files[0].Withheld == "" || jm.Files[2].Tier != messages.HighlySensitive {
		t.Errorf("job's manifest: got %+v", jm.Files)
	}
	log := readFile(t, b.record(j, "1", "logs.txt"))
	for _, want := range []string{
		"extract says hello\n\n=============JOB SUMMARY=============\njob_definition_id: " + string(j.ID) + "\n",
		"\nstatus_message: Completed successfully\n\noutputs:\n  big.csv           - moderately_sensitive\n",
		"\n\nInvalid moderately_sensitive outputs:\n  big.csv  - File has patient_id column\n",
		"Matched by rules of two tiers, kept in the more protected one:\n  output/table.csv\n",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	for _, base := range []string{b.cfg.High, b.cfg.Medium} {
		if got := readFile(t, filepath.Join(base, "ws", "metadata", "extract.log")); got != log {
			t.Errorf("log of the action in %s: got\n%s\nwant that of the attempt", base, got)
		}
	}
	var meta map[string]any
	if err := json.Unmarshal([]byte(readFile(t, b.record(j, "1", "metadata.json"))), &meta); err != nil {
		t.Fatal(err)
	}
	if meta["exit_code"] != "0" || meta["task_id"] != string(j.ID)+"-001" {
		t.Errorf("metadata: got %v", meta)
	}
	if info, err := os.Stat(filepath.Join(b.cfg.High, "ws", "report.html")); err != nil || info.Mode() != 0o640 || !info.ModTime().Equal(storetest.Epoch) {
		t.Errorf("mode and time of an output: got %v, %v", info, err)
	}
	b.wantClean(t)
}

func TestParked(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.run()
	j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
	b.AddJob(j)
	good := b.stage(t, j, 1, map[string]string{"a.csv": "1"})
	for name, change := range map[string]func(m *messages.Files, d *messages.Delivery){
		"not JSON":         func(_ *messages.Files, d *messages.Delivery) { d.Data = []byte("{") },
		"newer schema":     func(_ *messages.Files, d *messages.Delivery) { d.Data = []byte(`{"schema": 99}`) },
		"another subject":  func(_ *messages.Files, d *messages.Delivery) { d.Subject = "sluice.files.test.ws2." + string(j.ID) },
		"no subject of us": func(_ *messages.Files, d *messages.Delivery) { d.Subject = "foo" },
		"unknown job":      func(m *messages.Files, _ *messages.Delivery) { m.Job = messages.NewJobID("zz", "a") },
		"other workspace":  func(m *messages.Files, _ *messages.Delivery) { m.Workspace = "other" },
		"wrong backend":    func(m *messages.Files, _ *messages.Delivery) { m.Backend = "tpp" },
		"attempt too high": func(m *messages.Files, _ *messages.Delivery) { m.Attempt = 2 },
	} {
		m, d := *good, &messages.Delivery{}
		change(&m, d)
		made, err := storetest.Delivery(&m, 1)
		if err != nil {
			t.Fatal(err)
		}
		if d.Data != nil {
			made.Data = d.Data
		}
		if d.Subject != "" {
			made.Subject = d.Subject
		}
		var parked *messages.Parked
		if err := b.Deliver(t.Context(), made); !errors.As(err, &parked) || parked.Reason == "" {
			t.Errorf("%s: got %v, want it parked with a reason", name, err)
		}
	}
	if events, err := b.Events(); events != "" || err != nil {
		t.Errorf("parked messages published %s, %v", events, err)
	}
}

func TestRedeliveredAfterAll(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
	b.persist(t, j, map[string]string{"a.csv": "1"})
	m := b.stage(t, j, 1, map[string]string{"a.csv": "1"})
	if err := os.RemoveAll(b.cfg.Staging); err != nil {
		t.Fatal(err)
	}
	if err := b.deliver(t, m, 2); err != nil {
		t.Fatal(err)
	}
	b.wantEvent(t, j, messages.Persisted, 1)
	b.wantTrees(t, "ws", map[string]string{"a.csv": "1"}, map[string]string{})
	b.wantClean(t)
}

func TestLoser(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		winner func(*messages.Job) *messages.Commit
		reason string
	}{
		{"another attempt", func(j *messages.Job) *messages.Commit {
			return &messages.Commit{Job: j.ID, Attempt: 2, Manifest: messages.Digest(nil), Result: &messages.Result{}}
		}, "attempt 2 has the commit"},
		{"tombstone", func(j *messages.Job) *messages.Commit {
			return &messages.Commit{Job: j.ID, Code: messages.CancelledByUser}
		}, "the job has ended: cancelled_by_user"},
	} {
		for _, late := range []bool{false, true} {
			t.Run(tc.name, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				j := storetest.NewJob("ws", "a", "r1", high, "a.csv", medium, "b.txt")
				j.Attempt = 2
				b.AddJob(j)
				winner := tc.winner(j)
				create := func(key string) error {
					return b.CreateCommit(key, winner)
				}
				if late { // it comes while this one's files are copied
					b.BeforeCreate = create
				} else if err := create(messages.CommitKey(j.Backend, j.ID)); err != nil {
					t.Fatal(err)
				}
				if err := b.deliver(t, b.stage(t, j, 1, map[string]string{"a.csv": "1", "b.txt": "2"}), 1); err != nil {
					t.Fatal(err)
				}
				if e := b.wantEvent(t, j, messages.Discarded, winner.Attempt); e.Reason != tc.reason {
					t.Errorf("reason: got %q, want %q", e.Reason, tc.reason)
				}
				for _, dir := range []string{filepath.Join(b.cfg.High, "ws", "a.csv"), filepath.Join(b.cfg.Medium, "ws", "b.txt")} {
					if _, err := os.Stat(dir); !os.IsNotExist(err) {
						t.Errorf("%s is visible: %v", dir, err)
					}
				}
				if log := readFile(t, b.record(j, "1", "logs.txt")); !strings.Contains(log, "a says hello") || !strings.Contains(log, tc.reason) {
					t.Errorf("the log is not kept with its reason:\n%s", log)
				}
				b.wantClean(t)
			})
		}
	}
}

func TestLostAck(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
	b.BeforeCreate = func(key string) error { // its own write, whose ack was lost, retried by the client
		b.BeforeCreate = nil
		manifest, err := json.Marshal(&messages.JobManifest{
			Envelope: messages.Envelope{Schema: 1}, Job: j.ID, Attempt: 1, Backend: j.Backend, Workspace: "ws", Action: "a",
			Files: []messages.ManifestFile{{Path: "a.csv", Size: 1, Digest: messages.Digest([]byte("1")), Tier: messages.HighlySensitive}},
			At:    storetest.Epoch.Add(time.Minute),
		})
		if err != nil {
			return err
		}
		return b.CreateCommit(key, &messages.Commit{Job: j.ID, Attempt: 1, Manifest: messages.Digest(manifest), Result: &messages.Result{}})
	}
	b.persist(t, j, map[string]string{"a.csv": "1"})
	b.wantTrees(t, "ws", map[string]string{"a.csv": "1"}, map[string]string{})
	b.wantClean(t)
}

// A register that fails leaves it open whether there is a commit. The next
// delivery finds out, whichever it is, and so does the next job of the
// workspace.
func TestUncertainCommit(t *testing.T) {
	t.Parallel()
	down := errors.New("no connection")
	for _, tc := range []struct {
		name   string
		stored bool
		next   bool // another job of the workspace comes first
	}{{"not stored", false, false}, {"stored", true, false}, {"not stored, another job first", false, true}, {"stored, another job first", true, true}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			j := storetest.NewJob("ws", "a", "r1", high, "a.csv", medium, "b.txt")
			b.AddJob(j)
			if tc.stored {
				b.AfterCreate = func(string) error { b.AfterCreate = nil; return down }
			} else {
				b.BeforeCreate = func(string) error { b.BeforeCreate = nil; return down }
			}
			m := b.stage(t, j, 1, map[string]string{"a.csv": "1", "b.txt": "2"})
			if err := b.deliver(t, m, 1); !errors.Is(err, down) {
				t.Fatalf("got %v, want %v", err, down)
			}
			b.wantTrees(t, "ws", map[string]string{}, map[string]string{})
			wantHigh, wantMedium := map[string]string{"a.csv": "1", "b.txt": "2"}, map[string]string{"b.txt": "2"}
			if tc.next {
				other := storetest.NewJob("ws", "other", "r2", medium, "o.txt")
				b.persist(t, other, map[string]string{"o.txt": "3"})
				wantHigh["o.txt"], wantMedium["o.txt"] = "3", "3"
				if tc.stored {
					b.wantTrees(t, "ws", wantHigh, wantMedium)
				}
			}
			if err := b.deliver(t, m, 2); err != nil {
				t.Fatal(err)
			}
			b.wantEvent(t, j, messages.Persisted, 1)
			b.wantTrees(t, "ws", wantHigh, wantMedium)
			b.wantClean(t)
		})
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "a.csv")
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{"a.csv": "1"})
	m.Cancelled = true
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	b.wantEvent(t, j, messages.Discarded, 0)
	if log := readFile(t, b.record(j, "1", "logs.txt")); !strings.Contains(log, "status_message: Job cancelled by system") {
		t.Errorf("log:\n%s", log)
	}
	if _, err := os.Stat(filepath.Join(b.cfg.High, "ws")); !os.IsNotExist(err) {
		t.Errorf("the workspace was touched: %v", err)
	}
}

func TestFailedJobKeepsItsFiles(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "out/a.csv", high, "out/model.rds")
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{"out/a.csv": "1", "out/modle.rds": "2"})
	m.Given = []messages.Path{"code.R"}
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	r := b.committed(t, j).Result
	want := []messages.Unmatched{{Pattern: "out/model.rds", Nearest: []messages.Path{"out/modle.rds"}}}
	if diff := cmp.Diff(want, r.Unmatched); diff != "" || r.Code() != messages.UnmatchedPatterns {
		t.Errorf("unmatched, code %s (-want +got):\n%s", r.Code(), diff)
	}
	b.wantTrees(t, "ws", map[string]string{"out/a.csv": "1"}, map[string]string{})
	log := readFile(t, b.record(j, "1", "logs.txt"))
	for _, want := range []string{
		"status_message: \n  No outputs found matching patterns:\n - out/model.rds\n",
		"hint: \n  Did you mean to match one of these files instead?\n - out/modle.rds\n",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}
