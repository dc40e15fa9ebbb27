package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const good = "version: 5\nactions:\n  a:\n    run: r:v2 a.R\n    outputs:\n      highly_sensitive:\n        x: output/x.csv\n  b:\n    run: r:v2 b.R\n    needs: [a]\n    outputs:\n      moderately_sensitive:\n        y: output/y.csv\n"

// invoke runs a command line in this process.
func invoke(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

// TestExitCodes: what scripts read.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name  string
		stdin string
		args  []string
		code  int
		says  string
	}{
		{"no command prints the help", "", nil, ExitOK, "Run a study's actions here"},
		{"help", "", []string{"--help"}, ExitOK, "Exit codes"},
		{"help of a command", "", []string{"run", "--help"}, ExitOK, "--force-run-dependencies"},
		{"unknown command", "", []string{"nosuch"}, ExitUsage, "unexpected argument nosuch"},
		{"unknown flag", "", []string{"check", "--nosuch"}, ExitUsage, "unknown flag --nosuch"},
		{"a valid project", good, []string{"check", "-"}, ExitOK, "valid: 2 actions"},
		{"an invalid project", "version: 5\nactions:\n  a: 1\n", []string{"check", "-"}, ExitUsage, "standard input:3:"},
		{"no file", "", []string{"check", filepath.Join(dir, "none.yaml")}, ExitUsage, "there is no"},
		{"not a study", "", []string{"run", "--project-dir", dir}, ExitUsage, "go to the folder of a study"},
		{"a bad size", "", []string{"run", "--memory", "lots", "--project-dir", dir}, ExitUsage, `"lots" is not a size`},
		{"no server", "", []string{"status", "--nats", "nats://127.0.0.1:1"}, ExitOurs, "Is the server running?"},
		{"a bad request", "", []string{"submit", "--backend", "T", "-w", "a b", "--repo=-x", "--commit", "y"}, ExitUsage, "Invalid workspace name"},
		{"a bad topology", "", []string{"topology", "--replicas", "2"}, ExitUsage, "use 1 for a single server, 3 in a cluster"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			code, stdout, stderr := invoke(tc.stdin, tc.args...)
			if code != tc.code {
				t.Errorf("exit code %d, want %d; stderr: %s", code, tc.code, stderr)
			}
			if !strings.Contains(stdout+stderr, tc.says) {
				t.Errorf("output has no %q:\n%s%s", tc.says, stdout, stderr)
			}
		})
	}
}

func TestCheckJSON(t *testing.T) {
	code, stdout, _ := invoke(good, "check", "--json", "-")
	var report struct {
		Valid   bool           `json:"valid"`
		Errors  []any          `json:"errors"`
		Order   []string       `json:"order"`
		Actions map[string]any `json:"actions"`
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || code != ExitOK {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	if diff := cmp.Diff([]string{"a", "b"}, report.Order); diff != "" || !report.Valid || len(report.Actions) != 2 || report.Errors == nil {
		t.Errorf("report = %+v (order: %s)", report, diff)
	}
}

func TestGraph(t *testing.T) {
	for format, want := range map[string]string{"text": "b <- a", "mermaid": "flowchart LR", "svg": "<svg"} {
		code, stdout, stderr := invoke(good, "graph", "--format", format, "-")
		if code != ExitOK || !strings.Contains(stdout, want) {
			t.Errorf("graph --format %s: exit code %d, no %q in %s%s", format, code, want, stdout, stderr)
		}
	}
}

func TestTopology(t *testing.T) {
	code, stdout, _ := invoke("", "topology", "--backends", "tpp")
	for _, want := range []string{"SLUICE_REQUESTS", "SLUICE_JOBS", "worker-tpp-db", "persister-tpp"} {
		if code != ExitOK || !strings.Contains(stdout, want) {
			t.Errorf("topology: exit code %d, no %s in:\n%s", code, want, stdout)
		}
	}
}

func TestByteSize(t *testing.T) {
	for text, want := range map[string]byteSize{"0": 0, "12": 12, "1K": 1024, "1.5M": 3 << 19, "4G": 4 << 30, "4gb": 4 << 30, "2T": 2 << 40} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "G", "-1", "1X", "1 G", "9999999T", "nan"} {
		var got byteSize
		if err := got.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q = %d, want an error", text, got)
		}
	}
}

func TestWithoutTime(t *testing.T) {
	for line, want := range map[string]string{
		"2026-11-21T08:45:04.123456789Z hello": "hello",
		"2026-11-21T08:45:04Z ":                "",
		"2026-11-21 is a date":                 "2026-11-21 is a date",
		"plain":                                "plain",
	} {
		if got := withoutTime(line); got != want {
			t.Errorf("withoutTime(%q) = %q, want %q", line, got, want)
		}
	}
}

// TestFlagsHaveVariables: whatever a service can be told on its command line it
// can be told by its environment.
func TestFlagsHaveVariables(t *testing.T) {
	for _, command := range []any{plannerCommand{}, workerCommand{}, persisterCommand{}} {
		var look func(reflect.Type)
		look = func(typ reflect.Type) {
			for i := range typ.NumField() {
				f := typ.Field(i)
				if f.Anonymous {
					look(f.Type)
					continue
				}
				if f.Tag.Get("help") == "" {
					t.Errorf("%s.%s has no help", typ.Name(), f.Name)
				}
				if f.Tag.Get("env") == "" {
					t.Errorf("%s.%s has no variable", typ.Name(), f.Name)
				}
			}
		}
		look(reflect.TypeOf(command))
	}
}

func TestWorkspaceOf(t *testing.T) {
	for folder, want := range map[string]string{"/a/my-study": "my-study", "/a/my study.v2": "my_study_v2", "/": "_"} {
		if got := workspaceOf(folder); got != want {
			t.Errorf("workspaceOf(%q) = %q, want %q", folder, got, want)
		}
	}
}

func TestSourceOfAWorkingFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "project.yaml"), []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	s := gitFlags{}.source(t.TempDir(), dir, "")
	src := workingFolder(dir)
	if data, err := s.Project(t.Context(), src); err != nil || string(data) != good {
		t.Errorf("Project = %q, %v", data, err)
	}
	src.Repo = t.TempDir()
	if _, err := s.Project(t.Context(), src); err == nil {
		t.Error("another folder than the study's own was read")
	}
}
