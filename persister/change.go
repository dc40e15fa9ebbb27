package persister

import (
	"fmt"
	"strings"
	"time"

	"sluice/messages"
)

// An Output is a file that a job's commit makes visible.
type Output struct {
	Path   messages.Path
	Tier   messages.Tier
	Size   int64
	Digest string // sha256:…
	Time   time.Time
	Finding
}

// Shared reports whether the file goes into the moderately sensitive tier too.
func (o *Output) Shared() bool { return o.Tier == messages.ModeratelySensitive && o.Allowed() }

// A Change is what a job brings to its workspace.
type Change struct {
	Job       *messages.Job
	Outputs   []Output
	Succeeded bool
	Actions   []string // of the project at the job's commit; nil: not known

	DeleteObsolete bool // Config's

	entries []*ManifestEntry // of Outputs, once prepared
}

// prepare does ahead what Arrange needs of the job alone, as others wait for the
// workspace while that is called. It comes first, and nothing changes after it.
func (c *Change) prepare() (err error) {
	entries := make([]*ManifestEntry, len(c.Outputs))
	for i := range entries {
		entries[i] = c.entry(&c.Outputs[i])
		if entries[i].text, err = entries[i].encode(); err != nil {
			return fmt.Errorf("write manifest: %w", err)
		}
	}
	c.entries = entries
	return nil
}

// entry returns the manifest's entry of a new output.
func (c Change) entry(o *Output) *ManifestEntry {
	e := &ManifestEntry{
		Level: o.Tier, Job: c.Job.ID, Request: string(c.Job.Request), Action: c.Job.Action, User: c.Job.By, Repo: c.Job.Repo, Commit: c.Job.Commit,
		Size: o.Size, Timestamp: seconds(o.Time), ContentHash: strings.TrimPrefix(o.Digest, "sha256:"),
		Excluded: !o.Allowed(), RowCount: o.Rows, ColCount: o.Cols,
	}
	if e.Excluded {
		e.Message = ptr(o.Reason) // a copy, or all of the job's outputs stay as long as it
	}
	return e
}
