package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
			for file, text := range map[string]string{path: "", filepath.Join(j.dir, "a.page"): "", filepath.Join(j.dir, "b.page"): "\n{\"phase\":\"cl", j.dir + ".boot": tc.boot} {
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
		f, err := os.OpenFile(j.pages[e.attempt()], os.O_WRONLY|os.O_APPEND, 0)
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

// TestPages: an attempt that is done with leaves an empty page to the next, also
// to one of the next process; what one has written is never another's.
func TestPages(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	j, err := openJournal(state)
	if err != nil {
		t.Fatal(err)
	}
	entryOf := func(name string) *entry {
		return &entry{Phase: phaseClaimed, Boot: bootID(), Action: messages.Action{
			Job: messages.NewJobID("r1", name), Request: "r1", Attempt: 1, Backend: "test", Workspace: "ws", Name: name, Pool: "default", Image: "tools:v1",
			Source: messages.Source{Repo: "/study", Branch: "main", Commit: strings.Repeat("a", 40)}, Weight: 1,
		}}
	}
	names := func() (list []string) {
		entries, err := j.read(func(path string, err error) { t.Errorf("%s was lost: %v", path, err) })
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			list = append(list, e.Action.Name)
		}
		slices.Sort(list)
		return list
	}
	pages := func() int {
		found, err := filepath.Glob(filepath.Join(j.dir, "*.*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(slices.DeleteFunc(found, func(path string) bool { return filepath.Base(path) == guard }))
	}
	if err := os.Mkdir(filepath.Join(j.dir, "aside"), 0o700); err != nil { // by an operator
		t.Fatal(err)
	}
	if data, err := os.ReadFile(filepath.Join(j.dir, guard)); err != nil || len(data) > 0 { // earlier versions stop at what they cannot read
		t.Errorf("the guard has %q, %v", data, err)
	}
	for _, name := range []string{"a", "b"} {
		if err := j.write(entryOf(name)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 3 {
		done, next := entryOf("a"), entryOf("c")
		if i%2 == 1 {
			done, next = next, done
		}
		if err := errors.Join(j.remove(done.attempt()), j.remove(done.attempt()), j.write(next)); err != nil {
			t.Fatal(err)
		}
		if i == 1 { // another process
			if j, err = openJournal(state); err != nil {
				t.Fatal(err)
			}
		}
		if got, want := names(), []string{next.Action.Name, "b"}; !slices.Equal(got, want) && !slices.Equal(got, []string{"b", next.Action.Name}) {
			t.Errorf("entries = %q, want %q", got, want)
		}
	}
	if n := pages(); n != 2 {
		t.Errorf("%d pages, want 2", n)
	}
	// An entry of an earlier version is read, and its file goes with it.
	old, err := json.Marshal(entryOf("old"))
	if err == nil {
		err = os.WriteFile(filepath.Join(j.dir, "old.1.json"), old, 0o600)
	}
	if got := names(); err != nil || len(got) != 3 || pages() != 3 {
		t.Errorf("entries = %q of %d files (%v), want three", got, pages(), err)
	}
	if err := j.remove(entryOf("old").attempt()); err != nil || pages() != 2 {
		t.Errorf("%d files (%v), want the old one gone", pages(), err)
	}
	for i := range mostFree + 3 {
		if err := j.write(entryOf(fmt.Sprint("many", i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range mostFree + 3 {
		if err := j.remove(entryOf(fmt.Sprint("many", i)).attempt()); err != nil {
			t.Fatal(err)
		}
	}
	if n := pages(); n != mostFree+2 {
		t.Errorf("%d pages, want %d free ones and two", n, mostFree)
	}
	if got := names(); len(got) != 2 {
		t.Errorf("entries = %q, want two", got)
	}
}
