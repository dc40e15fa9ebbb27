package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
	"sluice/planner"
)

// TestPlannerFlags: what upstream's operators have in their environment counts.
func TestPlannerFlags(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "job-resource-weights_tpp.ini"), []byte("[ws]\nbig = 4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TPP_MAX_WORKERS", "10")
	t.Setenv("TPP_MAX_DB_WORKERS", "3")
	t.Setenv("TPP_JOB_CPU_COUNT", "4")
	t.Setenv("TPP_JOB_MEMORY_LIMIT", "16G")
	t.Setenv("MY_SITE_MAX_WORKERS", "2")
	f := plannerFlags{Backends: []string{"tpp", "my-site"}, Databases: []string{"default"}, Attempts: 3, Weights: dir}
	c, err := f.config()
	if err != nil {
		t.Fatal(err)
	}
	limits := map[string]map[string]float64{"tpp": {"default": 10, "db": 3}, "my-site": {"default": 2, "db": 2}}
	jobs := map[string]messages.Limits{"tpp": {CPUs: 4, Memory: 16 << 30}, "my-site": {}}
	weights := []planner.Weight{{Backend: "tpp", Workspace: "ws", Pattern: "big", Slots: 4}}
	if diff := cmp.Diff([]any{limits, jobs, weights}, []any{c.BackendLimits, c.JobLimits, c.Weights}); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
	t.Setenv("TPP_MAX_WORKERS", "many")
	t.Setenv("TPP_JOB_MEMORY_LIMIT", "lots")
	if _, err := f.config(); err == nil || !strings.Contains(err.Error(), "TPP_MAX_WORKERS is") || !strings.Contains(err.Error(), "TPP_JOB_MEMORY_LIMIT") {
		t.Errorf("of bad variables: %v", err)
	}
}
