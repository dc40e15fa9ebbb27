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

	"sluice/internal/needs"
)

// TestSettings: each variable of the example settings is one that the command
// line knows.
func TestSettings(t *testing.T) {
	sources, err := filepath.Glob("../internal/cli/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources of the command line: %v", err)
	}
	known := map[string]bool{"CLIENT_TOKENS": true}
	tag := regexp.MustCompile(`"([A-Z][A-Z0-9_]+)"`) // of a flag, or read by its name
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
	if err != nil || len(settings) != 4 {
		t.Fatalf("settings = %v, %v; want four files", settings, err)
	}
	variable := regexp.MustCompile(`(?m)^#?([A-Z0-9_]+)=`)
	for _, file := range settings {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range variable.FindAllStringSubmatch(string(text), -1) {
			ofBackend := strings.TrimPrefix(strings.TrimPrefix(m[1], "TPP_"), "EMIS_")
			if !known[m[1]] && !known[ofBackend] {
				t.Errorf("%s sets %s, which no command reads", file, m[1])
			}
		}
	}
}

// TestBackends: the example of a second backend is the first one's, with its
// name, as accounts.conf says that one is made.
func TestBackends(t *testing.T) {
	tpp, err := os.ReadFile("nats/backend-tpp.conf")
	if err != nil {
		t.Fatal(err)
	}
	emis, err := os.ReadFile("nats/backend-emis.conf")
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.NewReplacer("tpp", "emis", "TPP", "EMIS").Replace(string(tpp)); string(emis) != want {
		t.Error("backend-emis.conf differs from backend-tpp.conf in more than the name")
	}
}

// TestSynced: each server's configuration has every write on the disk before it
// is acknowledged.
func TestSynced(t *testing.T) {
	for _, name := range []string{"nats/one.conf", "nats/cluster.conf"} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`(?m)^\s*sync_interval: always\b`).Match(text) {
			t.Errorf("%s does not sync every write", name)
		}
	}
}

// TestUnits: systemd has nothing to say against the units.
func TestUnits(t *testing.T) {
	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		needs.Missing(t, "systemd-analyze is not here, so the units cannot be verified")
	}
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) != 4 {
		t.Fatalf("units = %v, %v; want four files", units, err)
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
