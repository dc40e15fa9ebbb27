package staging_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"sluice/worker/staging"
)

// TestUnseen: what the engine tells decides whether attempts get an overlay,
// and copies are all there either way.
func TestUnseen(t *testing.T) {
	t.Parallel()
	can := newSite(t, false, nil).Overlay()
	for _, tc := range []struct {
		name    string
		sees    func(path string) (bool, error)
		overlay bool
		warns   string
		err     string
	}{
		{name: "sees all", sees: func(path string) (bool, error) { return filepath.Base(path) != "missing", nil }, overlay: can},
		{name: "sees no mounts", sees: func(path string) (bool, error) { return filepath.Base(path) == "written", nil }, warns: "does not see what this process mounts"},
		{name: "says yes to everything", sees: func(string) (bool, error) { return true, nil }, warns: "does not tell"},
		{name: "is on another machine", sees: func(string) (bool, error) { return false, nil }, err: "does not see staging"},
		{name: "cannot be asked", sees: func(string) (bool, error) { return false, errors.New("gone") }, err: "gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false, tree{"a/b": "c"})
			cfg := s.config(false)
			var log bytes.Buffer
			cfg.Sees, cfg.Log = tc.sees, zerolog.New(&log)
			area, err := staging.Open(cfg, s.code)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("Open: %v, want an error with %q", err, tc.err)
				}
				return
			}
			do(t, err)
			s.Area = area
			if area.Overlay() != tc.overlay {
				t.Errorf("overlay = %v, want %v", area.Overlay(), tc.overlay)
			}
			if lines := strings.Count(log.String(), "\n"); can && (!strings.Contains(log.String(), tc.warns) || (lines == 1) != (tc.warns != "")) {
				t.Errorf("log has %d lines, want one with %q if there is something to say:\n%s", lines, tc.warns, log.String())
			}
			if diff := cmp.Diff(tree{"a/b": "c"}, read(t, s.prepare(t, newAction()).Mount)); diff != "" {
				t.Errorf("workspace mismatch (-want +got):\n%s", diff)
			}
		})
	}
}
