package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"sluice/messages"
)

// archived refuses an action of a workspace that has been packed away: to run
// it would begin the workspace anew beside its archive. The words and the
// endings are the reference's (agent/executors/local.py).
func (a *Area) archived(workspace string) error {
	if len(a.cfg.Archives) == 0 || messages.CheckWorkspace(workspace) != nil {
		return nil
	}
	_, err := os.Lstat(a.cfg.High(workspace))
	if err == nil {
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("look for workspace %s: %w", workspace, err)
	}
	for _, folder := range a.cfg.Archives {
		for _, ending := range []string{".tar.gz", ".tar.zstd", ".tar.xz"} {
			if _, err := os.Lstat(filepath.Join(folder, workspace+ending)); err == nil {
				return messages.Failf(messages.JobError, "Workspace %s has been archived. Contact the OpenSAFELY tech team to resolve", workspace)
			}
		}
	}
	return nil
}
