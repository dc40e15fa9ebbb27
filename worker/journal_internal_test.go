package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/messages"
)

// TestBrokenEntry: an entry that the machine's restart broke is passed over, one
// that nothing explains is not.
func TestBrokenEntry(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, boot string
		lost       int
		wantErr    bool
	}{
		{"the machine was restarted", "another boot", 1, false},
		{"it was not", bootID(), 0, true},
		{"nobody knows", "", 0, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			j, err := openJournal(state)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(j.dir, "abc.1.json")
			for file, text := range map[string]string{path: "", j.dir + ".boot": tc.boot} {
				if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			lost := 0
			for try := range 2 { // what was passed over is gone, and the boot is known
				entries, err := j.read(func(string, error) { lost++ })
				if (err != nil) != tc.wantErr || len(entries) != 0 || lost != tc.lost {
					t.Errorf("read %d = %v, %v, %d lost, want an error: %t, %d lost", try, entries, err, lost, tc.wantErr, tc.lost)
				}
			}
			if _, err := os.Stat(path); os.IsNotExist(err) == tc.wantErr {
				t.Errorf("the entry: %v", err)
			}
		})
	}
}

// TestJournalLines: of an attempt's lines the last whole one counts, however a
// process was killed over the next, and one that is written behind half a line is
// whole.
func TestJournalLines(t *testing.T) {
	t.Parallel()
	j, err := openJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	job := messages.NewJobID("r1", "make")
	source := messages.Source{Repo: "/study", Branch: "main", Commit: strings.Repeat("a", 40)}
	e := &entry{Boot: bootID(), Action: messages.Action{
		Job: job, Request: "r1", Attempt: 1, Backend: "test", Workspace: "ws", Name: "make", Pool: "default", Image: "tools:v1", Source: source, Weight: 1,
	}}
	path := j.path(e.attempt())
	for _, tc := range []struct {
		phase phase
		torn  string // written behind
	}{{phaseClaimed, ""}, {phaseStarted, `{"phase":"lis`}, {phaseStarted, "\n"}, {phaseListed, "\n{\"phase\""}} {
		if e.Phase = tc.phase; tc.phase == phaseListed {
			e.Files = &messages.Files{Job: job, Attempt: 1, Backend: "test", Workspace: "ws", Worker: "w1"}
		}
		if err := j.write(e); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString(tc.torn)
		}
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		entries, err := j.read(func(path string, err error) { t.Errorf("%s was lost: %v", path, err) })
		if err != nil || len(entries) != 1 || entries[0].Phase != tc.phase {
			t.Errorf("read = %v, %v, want phase %s", entries, err, tc.phase)
		}
	}
}
