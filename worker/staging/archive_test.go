package staging_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/messages"
	"sluice/worker/staging"
)

// TestArchived: an action of a workspace that was packed away is refused, in
// the reference's words; one whose folder is there, or that is new, is not.
func TestArchived(t *testing.T) {
	t.Parallel()
	s := newSite(t, true, tree{"a": "b"})
	cfg := s.config(true)
	own, theirs := filepath.Join(s.dir, "workspaces", "archives"), filepath.Join(s.dir, "archives")
	cfg.Archives = []string{own, theirs}
	area, err := staging.Open(cfg, s.code)
	do(t, err)
	do(t, os.MkdirAll(own, 0o755))
	do(t, os.MkdirAll(theirs, 0o755))
	do(t, os.WriteFile(filepath.Join(own, "ours.tar.gz"), nil, 0o644))
	for _, name := range []string{"packed.tar.gz", "old.tar.zstd", "xz.tar.xz", workspace + ".tar.gz", "zip.zip"} {
		do(t, os.WriteFile(filepath.Join(theirs, name), nil, 0o644))
	}
	for name, archived := range map[string]bool{"ours": true, "packed": true, "old": true, "xz": true, workspace: false, "zip": false, "new": false} {
		action := newAction()
		action.Workspace = name
		_, err := area.Prepare(t.Context(), action)
		var failure *messages.Failure
		want := "Workspace " + name + " has been archived. Contact the OpenSAFELY tech team to resolve"
		switch {
		case archived && (!errors.As(err, &failure) || failure.Code != messages.JobError || !strings.Contains(failure.Detail, want)):
			t.Errorf("%s: %v, want %q", name, err, want)
		case !archived && err != nil:
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(area.Dir(job, 1)); archived && !os.IsNotExist(err) {
			t.Errorf("%s: something is left in staging: %v", name, err)
		}
	}
	do(t, area.Remove(job, 1))
}
