package messages_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
)

var update = flag.Bool("update", false, "write the golden files of this version anew")

var (
	at     = time.Date(2026, 11, 2, 9, 30, 0, 0, time.UTC)
	job    = messages.NewJobID("rapreq0000000001", "summarise")
	digest = "sha256:" + strings.Repeat("ab", 32)
	source = messages.Source{Repo: "https://github.com/opensafely/study", Branch: "main", Commit: strings.Repeat("0a", 20)}
)

// samples has one full value of each type that crosses a process boundary.
func samples() map[string]messages.Message {
	no := false
	result := &messages.Result{
		ExitCode: 1, OOMKilled: true, Started: at, Finished: at.Add(time.Minute), Worker: "w1", ImageDigest: digest, Files: 2, Bytes: 30, Moderate: 1, LogBytes: 9,
		Unmatched: []messages.Unmatched{{Pattern: "output/*.csv", Nearest: []messages.Path{"out/a.csv", "bad\xff.csv"}}},
		Leftover:  []messages.Path{"out/a.csv"}, Leftovers: 1,
		Withheld: []messages.FileProblem{{Path: "output/t.csv", Reason: "File has patient_id column"}}, Withhelds: 1,
	}
	return map[string]messages.Message{
		"request": &messages.Request{
			ID: "rapreq0000000001", Backend: "tpp", Workspace: "asthma", Source: source, Database: "default", Actions: []string{"summarise"},
			ForceRunDependencies: true, CodelistsOK: &no, CreatedBy: "ada", Project: "asthma-study", Orgs: []string{"oxford"},
			AnalysisScope: &messages.AnalysisScope{DatasetPermissions: []string{"appointments"}},
		},
		"cancel": &messages.Cancel{Request: "rapreq0000000001", Backend: "tpp", Workspace: "asthma", Actions: []string{"summarise"}, By: "ada"},
		"job": &messages.Job{
			ID: job, Request: "rapreq0000000001", Backend: "tpp", Workspace: "asthma", Action: "summarise", Source: source, Reuses: &source, Pool: "default", Weight: 1,
			Run: "r:v2 analysis/summarise.R", Image: "r:v2", Args: []string{"analysis/summarise.R"}, Needs: []string{"extract"},
			WaitFor: []messages.JobID{messages.NewJobID("rapreq0000000001", "extract")},
			Rules:   []messages.Rule{{Tier: messages.ModeratelySensitive, Name: "table", Pattern: "output/*.csv"}},
			Limits:  messages.Limits{CPUs: 2, Memory: 4 << 30, Time: time.Hour}, Env: []messages.EnvVar{{Name: "A", Value: "b"}}, Created: at,
			State: messages.Failed, Code: messages.OutOfMemory, Message: "Job ran out of memory", Attempt: 2,
			Inputs: []messages.Input{{Action: "extract", Job: messages.NewJobID("rapreq0000000001", "extract"), Created: at, Manifest: digest}},
			Worker: "w1", Updated: at, Started: at, Completed: at, Lost: []messages.Loss{{Attempt: 1, Worker: "w2", Reason: "lease expired", At: at}},
			Result: result, Manifest: digest,
		},
		"latest": &messages.Latest{Action: "summarise", Jobs: []messages.JobID{job}},
		"plan": &messages.Plan{
			Request: messages.Request{ID: "rapreq0000000001", Backend: "tpp", Workspace: "asthma", Source: source, Actions: []string{"summarise"}},
			Jobs:    []messages.Planned{{Action: "summarise", Job: job, Why: messages.WhyAsked}}, Actions: []string{"extract", "summarise"}, Created: at, Done: true,
		},
		"action": &messages.Action{
			Job: job, Attempt: 1, Request: "rapreq0000000001", Backend: "tpp", Pool: "default", Workspace: "asthma", Name: "summarise", Source: source,
			Image: "r:v2", Args: []string{"analysis/summarise.R"}, Weight: 1.5, Limits: messages.Limits{CPUs: 2},
			Inputs: []messages.Input{{Action: "extract", Job: job, Created: at, Manifest: digest}}, Hard: true,
		},
		"lease":  &messages.Lease{State: messages.LeaseHeld, Owner: "w1", Nonce: "n", Weight: 1, Pool: "default", At: at},
		"commit": &messages.Commit{Job: job, Attempt: 2, Manifest: digest, Result: result, At: at},
		"files": &messages.Files{
			Job: job, Attempt: 1, Backend: "tpp", Workspace: "asthma", Worker: "w1", ExitCode: 1, ImageDigest: digest, Started: at, Finished: at,
			Listing: messages.Listing{Count: 2, Bytes: 12, Digest: digest, Files: []messages.File{
				{Path: "output/a.csv", Kind: messages.KindFile, Size: 12, Mode: 0o644, Time: at, Digest: digest},
				{Path: "output/l\xff", Kind: messages.KindLink},
			}},
			Log: messages.Log{Bytes: 9, Digest: digest},
		},
		"worker_event":    &messages.WorkerEvent{Job: job, Attempt: 1, Backend: "tpp", Workspace: "asthma", Worker: "w1", Stage: messages.StageErrored, Reason: "disk full", At: at},
		"persister_event": &messages.PersisterEvent{Job: job, Attempt: 1, Winner: 1, Backend: "tpp", Workspace: "asthma", Verdict: messages.Persisted, At: at},
		"outcome": &messages.Outcome{
			Kind: messages.OutcomeJob, Request: "rapreq0000000001", Backend: "tpp", Workspace: "asthma", At: at, Source: &source, More: 1,
			Job: &messages.JobOutcome{Job: job, Action: "summarise", State: messages.Succeeded, Code: messages.Success, Message: "Completed successfully", Files: 2, Run: "r:v2 analysis/summarise.R", Database: true, Created: at, Updated: at},
		},
		"log_chunk": &messages.LogChunk{Job: job, Attempt: 1, Offset: 4, Text: "line\n", At: at},
		"presence":  &messages.Presence{Worker: "w1", Backend: "tpp", Host: "node1", Version: "v1", Pools: map[string]messages.Slots{"default": {Total: 4, Used: 1}}, Since: at, At: at},
		"setting": &messages.Setting{Paused: &messages.Switch{Since: at, By: "ops"}, Limits: map[string]float64{"db": 4},
			Maintenance: &messages.Switch{Since: at, Manual: true}, Drain: []string{"w1"}, JobLimits: messages.Limits{CPUs: 2, Memory: 4 << 30}, Disclosure: []string{messages.DiscloseExitCode},
			Weights: []messages.Weight{{Workspace: "asthma", Pattern: "model_.*", Slots: 2.5}}},
		"leader":  &messages.Leader{Owner: "p1", Nonce: "n", Since: at},
		"control": &messages.Control{Kind: messages.ControlStop, Job: job, Attempt: 1, Reason: "cancelled_by_user"},
	}
}

// TestGolden: what this build writes is what version 1 wrote, and it reads the
// same value back.
func TestGolden(t *testing.T) {
	t.Parallel()
	for name, m := range samples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data, err := messages.Encode(m)
			if err != nil {
				t.Fatalf("Encode: %v", err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, data, "", "  "); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			file := filepath.Join("testdata", "v1", name+".json")
			if *update {
				if err := os.WriteFile(file, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("encoding changed (-want +got); a change of meaning needs a new schema version:\n%s", diff)
			}
			back := newLike(m)
			if err := messages.Decode(want, back); err != nil {
				t.Fatalf("Decode: %v", err)
			}
			again, err := messages.Encode(back)
			if err != nil {
				t.Fatalf("Encode again: %v", err)
			}
			if diff := cmp.Diff(string(data), string(again)); diff != "" {
				t.Errorf("decoding lost something (-want +got):\n%s", diff)
			}
		})
	}
}
