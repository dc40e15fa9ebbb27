package reliability

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/internal/fault"
)

// A scene is what happens, at a fault point or otherwise, and what is expected
// after it. Unprotected is how the protection behind it is taken out: with these
// edits of the source, the scene fails. `make unprotected` tries them all.
type scene struct {
	point       string // or another name
	play        func(*fleet)
	unprotected []edit
}

// An edit replaces a text of a file, which has it once.
type edit struct{ file, old, new string }

// TestFaultPoints kills a process at each fault point, one fleet for each.
func TestFaultPoints(t *testing.T) {
	t.Parallel()
	scenes := slices.Concat(plannerScenes, workerScenes, persisterScenes, jetstreamScenes)
	tested := map[string]bool{}
	for _, s := range scenes {
		tested[s.point] = true
		t.Run(s.point, s.run)
	}
	for _, p := range fault.Points {
		if !tested[p.Name] {
			t.Errorf("%s has no scene", p.Name)
		}
	}
}

// TestFaultPointsParked is the same for containers that were started in advance,
// as a worker has them unless it is told otherwise.
func TestFaultPointsParked(t *testing.T) {
	t.Parallel()
	for _, s := range workerScenes {
		if !slices.Contains(parkedPoints, s.point) || *withoutProtection {
			continue
		}
		t.Run(s.point, scene{s.point + "-parked", func(f *fleet) {
			f.parked = 1
			s.play(f)
		}, s.unprotected}.run)
	}
}

// run plays the scene in a fleet of its own, or without its protection.
func (s scene) run(t *testing.T) {
	t.Parallel()
	overlay := s.overlay(t)
	if !*withoutProtection {
		for _, failure := range inFleet(t, s.point, binary, 5*time.Minute+*longest, s.play) {
			t.Error(failure)
		}
		return
	}
	open := filepath.Join(t.TempDir(), "sluice")
	if err := build(open, overlay); err != nil {
		t.Fatal(err)
	}
	failures := inFleet(t, s.point, open, 50*time.Second, s.play)
	if len(failures) == 0 {
		t.Error("without its protection the scene ends as with it")
	}
	t.Logf("fails, as it should: %s", strings.Join(failures, "; "))
}

// overlay writes the edited files, and returns the file that has the build use
// them. An edit whose text has moved is an error in any run: nobody could try
// the scene without its protection any more.
func (s scene) overlay(t *testing.T) string {
	t.Helper()
	if len(s.unprotected) == 0 {
		t.Errorf("%s: it is not said how its protection is taken out", s.point)
	}
	dir := t.TempDir()
	texts := map[string]string{}
	for _, e := range s.unprotected {
		path, err := filepath.Abs(filepath.Join("../..", e.file))
		if err != nil {
			t.Fatal(err)
		}
		text, edited := texts[path]
		if !edited {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Errorf("%s has %d times the text that is edited to take the protection out: %s", e.file, n, e.old)
		}
		texts[path] = strings.Replace(text, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for path, text := range texts {
		replace[path] = filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(replace[path], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// calm asks for two actions of which one needs the other, and expects that
// they end as if nothing had happened.
func (f *fleet) calm(attempts string) {
	f.request("r1", "use")
	f.finished("r1")
	f.settled()
	f.wantJobs("r1", map[string]string{"make": "succeeded/" + attempts, "use": "succeeded/1"})
	f.wantTiers(and(highFirst, used), mediumFirst)
	f.wantDead(0, 0)
}

// died reports a process that did not die at its fault point.
func (p *process) died(times int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lives != times+1 {
		p.f.errorf("%s died %d times, want %d", p.name, p.lives-1, times)
	}
}
