package worker

import (
	"os"
	"path/filepath"
	"testing"
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
