package persister_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/needs"
	"sluice/messages"
	"sluice/persister/storetest"
)

type persistCase struct {
	ID    string        `json:"id"`
	Note  string        `json:"note"`
	Steps []persistStep `json:"steps"`
}

type persistStep struct {
	JobID     string            `json:"job_id"`
	Action    string            `json:"action"`
	Commit    string            `json:"commit"`
	Actions   []string          `json:"project_actions_at_commit"`
	Spec      map[string]string `json:"output_spec"`
	Files     map[string]string `json:"files"`
	MaxRows   int               `json:"level4_max_csv_rows"`
	Outputs   map[string]string `json:"outputs"`
	Unmatched []string          `json:"unmatched_patterns"`
	Excluded  map[string]string `json:"level4_excluded_files"`
	High      []string          `json:"high_privacy_tree"`
	Medium    []string          `json:"medium_privacy_tree"`
	Messages  map[string]string `json:"message_files"`
	Manifest  struct {
		Workspace string                    `json:"workspace"`
		Outputs   map[string]map[string]any `json:"outputs"`
	} `json:"manifest"`
}

// Each sequence of jobs leaves both tiers and the manifest as the reference
// does. Where a row of the table of differences applies, the test takes it out
// of the comparison and names it.
func TestPersistCases(t *testing.T) {
	t.Parallel()
	for _, c := range needs.Cases[persistCase](t, "persist.jsonl") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			t.Log(c.Note)
			b := newBench(t)
			gone := map[string]bool{} // from the moderately sensitive tier, on purpose
			for i, s := range c.Steps {
				b.checks.MaxRows = s.MaxRows
				s.run(t, b, c.Steps[:i+1], gone)
				if t.Failed() {
					t.Fatalf("after step %d", i)
				}
			}
		})
	}
}

// run does one job of a case. Every step of a case has the same limit of rows.
func (s persistStep) run(t *testing.T, b *bench, steps []persistStep, gone map[string]bool) {
	var rules []string
	for pattern, tier := range s.Spec {
		rules = append(rules, tier, pattern)
	}
	workspace := s.Manifest.Workspace
	j := storetest.NewJob(workspace, s.Action, "rap-"+s.JobID, rules...)
	j.Commit = s.commit()
	b.Plans[messages.PlanKey(j.Backend, workspace, j.Request)] = &messages.Plan{Actions: s.Actions}
	result := b.persist(t, j, s.Files)
	var unmatched []string
	for _, u := range result.Unmatched {
		unmatched = append(unmatched, u.Pattern)
	}
	if diff := cmp.Diff(set(s.Unmatched), set(unmatched)); diff != "" {
		t.Errorf("unmatched patterns (-want +got):\n%s", diff)
	}
	excluded := map[string]string{}
	for _, w := range result.Withheld {
		excluded[string(w.Path)] = w.Reason
	}
	if diff := cmp.Diff(s.Excluded, excluded); diff != "" {
		t.Errorf("withheld files (-want +got):\n%s", diff)
	}
	before := len(gone)
	s.compareTrees(t, b, steps, gone, len(unmatched) == 0)
	s.compareManifest(t, b, steps, gone, before)
}

// commit is the case's made-up commit as one that a request can have.
func (s persistStep) commit() string { return messages.Digest([]byte(s.Commit))[7:47] }

func (s persistStep) compareTrees(t *testing.T, b *bench, steps []persistStep, gone map[string]bool, succeeded bool) {
	t.Helper()
	if diff := cmp.Diff(set(s.High), names(b.tree(t, b.cfg.High, s.Manifest.Workspace))); diff != "" {
		t.Errorf("highly sensitive tier (-want +got):\n%s", diff)
	}
	got := b.tree(t, b.cfg.Medium, s.Manifest.Workspace)
	want := set(s.Medium)
	delete(want, "metadata/manifest.json")
	for _, before := range steps {
		for p, tier := range before.Outputs {
			if before.Action != s.Action || tier != medium || s.Outputs[p] == medium || s.Outputs[p] == "" && !succeeded {
				continue
			}
			for _, name := range []string{p, p + ".txt"} {
				if _, there := got[name]; want[name] && !there && s.Outputs[name] != medium {
					t.Logf("%s: row %q", name, "a relabelled, renamed or removed output stays in the lower tier")
					gone[p] = true
				}
			}
		}
	}
	for p := range gone {
		if s.Outputs[p] == medium {
			delete(gone, p)
			continue
		}
		delete(want, p)
		delete(want, p+".txt")
	}
	if diff := cmp.Diff(want, names(got)); diff != "" {
		t.Errorf("moderately sensitive tier (-want +got):\n%s", diff)
	}
	for name, text := range s.Messages {
		if content, there := got[name]; there && content != text {
			t.Errorf("message %s: got %q, want %q", name, content, text)
		}
	}
}

func (s persistStep) compareManifest(t *testing.T, b *bench, steps []persistStep, gone map[string]bool, before int) {
	t.Helper()
	m := b.manifest(t, s.Manifest.Workspace)
	if _, ok := m["repo"]; !ok || m["workspace"] != s.Manifest.Workspace || m["repo"] != nil {
		t.Errorf("manifest's head: got workspace %v, repo %v", m["workspace"], m["repo"])
	}
	outputs := m["outputs"].(map[string]any)
	recorded := 0
	for p, want := range s.Manifest.Outputs {
		got, ok := outputs[p].(map[string]any)
		if !ok {
			t.Errorf("the manifest lacks %s", p)
			continue
		}
		for _, earlier := range steps { // ids are ours, derived
			if want["job_id"] == earlier.JobID {
				request := messages.RequestID("rap-" + earlier.JobID)
				want["job_id"], want["job_request"] = string(messages.NewJobID(request, earlier.Action)), string(request)
			}
			if want["commit"] == earlier.Commit {
				want["commit"] = earlier.commit()
			}
		}
		if _, placeholder := want["timestamp"].(string); placeholder {
			want["timestamp"] = float64(storetest.Epoch.Unix())
		}
		const removed = "removed_from_moderately_sensitive_by"
		if by := got[removed]; gone[p] && by != nil {
			t.Logf("%s: %s %v", p, removed, by)
			delete(got, removed)
			recorded++
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("manifest of %s (-want +got):\n%s", p, diff)
		}
		delete(outputs, p)
	}
	if len(gone) > before && recorded == 0 {
		t.Errorf("the manifest does not record what was removed: %v", gone)
	}
	for p := range outputs {
		t.Errorf("the manifest has %s, the reference's has not", p)
	}
}

func set(list []string) map[string]bool {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return m
}

func names(tree map[string]string) map[string]bool {
	m := map[string]bool{}
	for name := range tree {
		m[name] = true
	}
	return m
}
