package fault_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sluice/internal/fault"
)

// child builds the program in testdata and returns how to run it.
func child(t *testing.T, tags string) func(env []string, points ...string) *exec.Cmd {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "child")
	if out, err := exec.Command("go", "build", "-tags="+tags, "-o", bin, "./testdata/child").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return func(env []string, points ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), bin, points...)
		cmd.Env = append(os.Environ(), env...)
		return cmd
	}
}

// TestActions: what the environment asks for happens, there and then.
func TestActions(t *testing.T) {
	t.Parallel()
	const a, b = "worker.after-take", "worker.after-claim"
	run := child(t, "faults")
	for _, tc := range []struct {
		name, fault string
		points      []string
		want        string // on the standard output
		killed      bool
		wantErr     string
	}{
		{name: "nothing", points: []string{a}, want: "past " + a + "\ndeferred\n"},
		{name: "die", fault: b + "=die", points: []string{a, b}, want: "past " + a + "\n", killed: true},
		{name: "die at the third time", fault: a + "=die@3", points: []string{a, b, a, a}, want: "past " + a + "\npast " + b + "\npast " + a + "\n", killed: true},
		{name: "cut once", fault: a + "=cut:5s", points: []string{a, a}, want: "cut for 5s\npast " + a + "\npast " + a + "\ndeferred\n"},
		{name: "two points", fault: a + "=cut," + b + "=die", points: []string{a, b}, want: "cut for 3s\npast " + a + "\n", killed: true},
		{name: "random, certainly", fault: "random:1:1", points: []string{a}, killed: true},
		{name: "random, never", fault: "random:1:0", points: []string{a}, want: "past " + a + "\ndeferred\n"},
		{name: "random cut", fault: "random:1:1:cut:1s", points: []string{a}, want: "cut for 1s\npast " + a + "\ndeferred\n"},
		{name: "misspelt point", fault: "worker.aftr-take=die", wantErr: "no fault point"},
		{name: "misspelt action", fault: a + "=dye", wantErr: "not die, hang or cut"},
		{name: "no action", fault: a, wantErr: "not point=action"},
		{name: "bad count", fault: a + "=die@0", wantErr: "not a count"},
		{name: "bad probability", fault: "random:1:2", wantErr: "not a probability"},
		{name: "bad seed", fault: "random:x:0.5", wantErr: "not a seed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cmd := run([]string{"SLUICE_FAULT=" + tc.fault, "SLUICE_FAULT_DIR="}, tc.points...)
			var complaint strings.Builder
			cmd.Stderr = &complaint
			out, err := cmd.Output()
			if string(out) != tc.want {
				t.Errorf("output %q, want %q", out, tc.want)
			}
			if tc.wantErr != "" {
				if cmd.ProcessState.ExitCode() != 2 || !strings.Contains(complaint.String(), tc.wantErr) {
					t.Errorf("ended with %v and %q, want exit 2 and %q", err, complaint.String(), tc.wantErr)
				}
				return
			}
			if killed := !cmd.ProcessState.Exited(); killed != tc.killed || !killed && err != nil {
				t.Errorf("ended with %v, want killed: %v", err, tc.killed)
			}
		})
	}
}

// TestRandomRepeats: the same seed dies at the same reach of the same point.
func TestRandomRepeats(t *testing.T) {
	t.Parallel()
	run := child(t, "faults")
	var points []string
	for i := range 200 {
		points = append(points, fault.Points[i%len(fault.Points)].Name)
	}
	ends := map[string]bool{}
	for _, seed := range []int{1, 2, 3, 1, 2, 3} {
		out, err := run([]string{fmt.Sprintf("SLUICE_FAULT=random:%d:0.05", seed), "SLUICE_FAULT_DIR="}, points...).Output()
		if killed := (*exec.ExitError)(nil); !errors.As(err, &killed) || killed.Exited() {
			t.Errorf("seed %d: ended with %v, want a death", seed, err)
		}
		ends[fmt.Sprint(seed, strings.Count(string(out), "past"))] = true
	}
	if len(ends) != 3 {
		t.Errorf("the ends of three seeds, twice each: %v", ends)
	}
}

// TestHang: it is told when the point is reached, and goes on at a word.
func TestHang(t *testing.T) {
	t.Parallel()
	const point = "planner.after-plan"
	dir := t.TempDir()
	cmd := child(t, "faults")([]string{"SLUICE_FAULT=" + point + "=hang", "SLUICE_FAULT_DIR=" + dir}, point, point)
	cmd.Stdout = &strings.Builder{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		note, err := os.ReadFile(filepath.Join(dir, point+".hit"))
		if err == nil && len(note) > 0 {
			if want := fmt.Sprintf("%d hang\n", cmd.Process.Pid); string(note) != want {
				t.Errorf("note %q, want %q", note, want)
			}
			break
		}
		select {
		case err := <-ended:
			t.Fatalf("the process ended (%v) without a note", err)
		default:
		}
	}
	if err := os.WriteFile(filepath.Join(dir, point+".go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("after the word: %v", err)
	}
}

// TestNormalBuild: without the tag nothing happens, whatever the environment
// says, and nothing of it is in the program.
func TestNormalBuild(t *testing.T) {
	t.Parallel()
	cmd := child(t, "")([]string{"SLUICE_FAULT=worker.after-take=die"}, "worker.after-take")
	if out, err := cmd.CombinedOutput(); err != nil || string(out) != "past worker.after-take\ndeferred\n" {
		t.Errorf("got %v and %q", err, out)
	}
	data, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range []string{"SLUICE_FAULT", fault.Points[0].Lost} {
		if strings.Contains(string(data), trace) {
			t.Errorf("the program has %q in it", trace)
		}
	}
}
