package persister

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sluice/messages"
)

// A Store is staging and the tiers, as the service sees them. It lets one
// process at a time work on an attempt and change a workspace.
type Store interface {
	// Recover finishes the changes that an earlier process left behind after
	// their commit, and drops what never got that far.
	Recover(ctx context.Context, committed Committed) error
	// Published reports whether the change of a job whose commit has this
	// manifest is complete, after finishing one that was left behind.
	Published(ctx context.Context, a Attempt, manifest string, committed Committed) (bool, error)
	// Begin takes an attempt. ErrBusy: another process has it. ErrWorkspace: it
	// never can.
	Begin(ctx context.Context, a Attempt) (Draft, error)
}

// Committed returns the number of the attempt that has the commit of a job: 0
// for a tombstone, -1 if there is no commit.
type Committed func(ctx context.Context, job messages.JobID) (int, error)

// ErrBusy is wrapped when another process works on the same attempt.
var ErrBusy = errors.New("another process works on this attempt")

// ErrUnfinished is wrapped when a change that has its commit cannot be finished
// for now. Nothing else can change its workspace before it is.
var ErrUnfinished = errors.New("a committed change of the workspace cannot be finished yet")

// ErrWorkspace is wrapped when a workspace's name is one that the store cannot
// keep apart from what is its own.
var ErrWorkspace = errors.New("the workspace cannot have this name here")

// An Attempt names the attempt that a Draft is of, and where its files belong.
type Attempt struct {
	Workspace string
	Action    string
	Job       messages.JobID
	Number    int
	Created   time.Time // of the job: its month names the folder of the record
}

func (a Attempt) String() string { return fmt.Sprintf("%s attempt %d", a.Job, a.Number) }

// A Draft is one attempt on its way into the tiers. Nothing of it can be seen
// there before Publish. Close gives it up, unless it was published; a second
// Close does nothing.
type Draft interface {
	// Open opens a file that the worker wrote beside the attempt's files:
	// StagedLog, StagedListing or StagedContainer. The error wraps
	// fs.ErrNotExist if it is missing, or anything but a regular file.
	Open(name string) (io.ReadCloser, error)
	// Copy copies files out of staging and verifies each against its listing. It
	// wraps Differs if one is not as listed. Large files may still be on their
	// way when it returns, until ctx ends: Publish waits for them.
	Copy(ctx context.Context, files []messages.File) error
	// Copied opens what Copy copied, by its place in files. For a large file it
	// waits, and wraps Differs as Copy does.
	Copied(i int) (io.ReadCloser, error)
	// Publish makes the change durable, calls its Commit once all is verified,
	// and makes it visible. It wraps Differs as Copy does, ErrLost if Commit does,
	// and Blocked if a file cannot lie where it should; then nothing has changed.
	Publish(ctx context.Context, p *Publication) error
	// Keep stores the attempt's record alone.
	Keep(ctx context.Context, r *Record) error
	Close() error
}

// Names of the files that a worker writes beside an attempt's files.
const (
	StagedLog       = "log"
	StagedListing   = "listing.jsonl"
	StagedContainer = "container.json"
)

// A Differs is wrapped when files in staging are not as the worker listed them.
type Differs struct {
	Problems []messages.FileProblem // which, in the order of the listing, and how
}

func (d *Differs) Error() string {
	const shown = 5
	var list []string
	for _, p := range d.Problems[:min(len(d.Problems), shown)] {
		list = append(list, messages.Quote(string(p.Path))+": "+p.Reason)
	}
	if len(d.Problems) > shown {
		list = append(list, fmt.Sprintf("and %d more", len(d.Problems)-shown))
	}
	return "files are not as the worker listed them: " + strings.Join(list, "; ")
}

// ErrLost is wrapped by a Commit that another attempt or a tombstone has won.
var ErrLost = errors.New("another has the commit")

// A Publication is one job's change of its workspace.
type Publication struct {
	Outputs  []Output // in the order of the files given to Copy
	Record   *Record  // of the attempt; its log is also the action's in both tiers
	Manifest []byte   // the job's: its digest is in the commit
	Aside    bool     // the outputs go beside the attempt's log; the workspace stays as it is, but for the action's log

	// Arrange works out the workspace's next manifest and what must go. It does
	// nothing else, but the next manifest shares entries with the old one; the
	// store calls it while nothing else can change the workspace, and not at all
	// if Aside.
	Arrange func(old *Manifest, inTheWay InTheWay) (*Arrangement, error)
	// Commit creates the job's commit. It is called once, when everything is
	// durable and before anything is visible. After an error that is not
	// ErrLost nobody knows whether there is one: it is asked for later.
	Commit    func(ctx context.Context) error
	Committed Committed
}

// A Record is what is kept of every attempt, whatever became of it.
type Record struct {
	LogSize   int64  // as the worker reports it
	Footer    []byte // follows the log
	Metadata  []byte // metadata.json
	Container []byte // container.json: the engine's record; nil if there is none
}
