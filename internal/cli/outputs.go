package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sluice/messages"
)

// folderOutputs tells the planner of `sluice run` which outputs people have
// deleted from a study's folder: their actions run again.
type folderOutputs struct {
	folder  string
	records string // root of the records of jobs
}

// Gone reports whether an output that a job left is no longer there. A job
// whose record is gone counts as never run.
func (f folderOutputs) Gone(_ context.Context, j *messages.Job) (bool, error) {
	data, err := os.ReadFile(filepath.Join(f.records, messages.RecordMonth(j.Created), string(j.ID), "manifest.json"))
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read what job %s left: %w", j.ID, err)
	}
	var m messages.JobManifest
	if err := messages.Decode(data, &m); err != nil {
		return false, fmt.Errorf("read what job %s left: %w", j.ID, err)
	}
	for _, file := range m.Files {
		if _, err := os.Lstat(filepath.Join(f.folder, string(file.Path))); errors.Is(err, os.ErrNotExist) {
			return true, nil
		}
	}
	return false, nil
}
