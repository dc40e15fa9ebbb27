// Package deploy holds what a fleet is set up with, and the tests that it
// still works.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSettings: each variable of the example settings is one that the command
// line knows.
func TestSettings(t *testing.T) {
	sources, err := filepath.Glob("../internal/cli/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources of the command line: %v", err)
	}
	known := map[string]bool{"FULL_DATABASE_URL": true, "SLICE_DATABASE_URL": true, "DUMMY_DATABASE_URL": true, "PRIVATE_REPO_ACCESS_TOKEN": true}
	tag := regexp.MustCompile(`env:"([A-Z0-9_]+)"`)
	for _, file := range sources {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range tag.FindAllStringSubmatch(string(text), -1) {
			known[m[1]] = true
		}
	}
	settings, err := filepath.Glob("settings/*.env")
	if err != nil || len(settings) != 3 {
		t.Fatalf("settings = %v, %v; want three files", settings, err)
	}
	variable := regexp.MustCompile(`(?m)^#?([A-Z0-9_]+)=`)
	for _, file := range settings {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range variable.FindAllStringSubmatch(string(text), -1) {
			if !known[m[1]] {
				t.Errorf("%s sets %s, which no command reads", file, m[1])
			}
		}
	}
}

// TestUnits: systemd has nothing to say against the units.
func TestUnits(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("skipped: systemd-analyze is not here, so the units cannot be verified")
	}
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) != 3 {
		t.Fatalf("units = %v, %v; want three files", units, err)
	}
	for _, unit := range units {
		out, _ := exec.Command(verify, "verify", unit).CombinedOutput()
		for line := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
			// The program is not installed where this is tested, and other units of
			// the machine are not ours.
			if strings.Contains(line, filepath.Base(unit)) && !strings.Contains(line, "is not executable") {
				t.Errorf("%s", line)
			}
		}
	}
}
