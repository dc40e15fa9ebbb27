// Package staging lays out the workspace of an attempt and lists what the
// attempt left in it.
//
//	<Root>/<job>/<attempt>/files       the attempt's own files: what the persister reads
//	                       work        the overlay's scratch
//	                       inputs      outputs of needed jobs, read-only to the attempt
//	                       code        a working folder's copy, where the code is no commit
//	                       workspace   the mount that the container gets
//	                       log, listing.jsonl, milestones.jsonl, container.json
//	<Cache>/inputs                     inputs for other attempts, links to what lies in theirs
//	<Cache>/code/<key>                 one extraction per commit and worker
//
// Only the worker's user and one group can enter the folders above an attempt's
// files. Once its container is gone, the files that are listed are given to that
// group, so that a persister that is another user can read what a study's
// programs left to themselves alone.
//
// The workspace is an overlay: its lower layers are the code and the inputs,
// its upper layer is files, so that "what is new" costs what the attempt wrote
// and not what it was given, and misses nothing that time stamps miss. Where no
// overlay can be mounted, files is the workspace itself, filled with copies,
// and what is new is the difference between a listing before and one after.
package staging

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"sluice/internal/fault"
	"sluice/messages"
)

// A Config says where things are. Root and Cache must be absolute.
type Config struct {
	Worker   string                        // whose staging this is: several may share Root
	Root     string                        // staging; the persister reads it
	Cache    string                        // this worker's own
	High     func(workspace string) string // the workspace's folder in the highly sensitive tier
	Records  string                        // root of the records of jobs
	Archives []string                      // folders of archived workspaces
	UID      int                           // owner of what a container may change
	GID      int
	Group    int  // may read what attempts leave, as a persister that is another user does; 0: this process's own
	Public   bool // everybody may, as in a study's own folder
	Copy     bool // never mount an overlay

	// Sees reports whether what runs containers finds a file where this process
	// finds it; nil: it does, whatever this process mounts. An error that wraps
	// ErrLater says that it cannot be asked yet: Ready asks again.
	Sees func(path string) (bool, error)

	Trees     int           // extracted commits to keep
	TreeBytes int64         // of them; commits in use may be more
	Kept      int64         // bytes of inputs to keep for other attempts; 0 for none
	Failed    time.Duration // to keep what an attempt left that a fault of ours ended; 0: not at all
	Log       zerolog.Logger
}

// Check reports every value that cannot work.
func (c Config) Check() error {
	var errs []error
	for _, p := range []struct{ name, path string }{{"staging", c.Root}, {"cache", c.Cache}, {"records", c.Records}} {
		if !filepath.IsAbs(p.path) {
			errs = append(errs, fmt.Errorf("%s: %s is not an absolute path", p.name, messages.Quote(p.path)))
		}
	}
	if messages.CheckWorker(c.Worker) != nil {
		errs = append(errs, messages.CheckWorker(c.Worker))
	}
	if c.High == nil {
		errs = append(errs, errors.New("high: no folder is set"))
	}
	if c.UID < 0 || c.GID < 0 {
		errs = append(errs, fmt.Errorf("user %d:%d is not one", c.UID, c.GID))
	}
	if c.Group < 0 {
		errs = append(errs, fmt.Errorf("group %d is not one", c.Group))
	}
	return errors.Join(errs...)
}

// A Code extracts the tree of a source into an empty directory.
type Code interface {
	Extract(ctx context.Context, src messages.Source, dir string) error
}

// An Area is the staging of one worker.
type Area struct {
	cfg     Config
	code    Code
	overlay atomic.Bool
	trees   trees
	kept    *keeping // nil where no inputs are kept

	asking sync.Mutex // held by Ready
	asked  bool       // the engine has told what it sees

	leftMu sync.Mutex
	left   []left // of failed attempts, the next to go first
}

// ErrLater is wrapped when what runs containers cannot be asked yet.
var ErrLater = errors.New("it cannot be asked yet")

// Open makes the folders, finds out whether overlays can be mounted, and says
// so once. Where that cannot be known yet, nothing can be staged before Ready.
func Open(cfg Config, code Code) (*Area, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Trees < 1 {
		cfg.Trees = 16
	}
	if cfg.TreeBytes < 1 {
		cfg.TreeBytes = 10 << 30
	}
	a := &Area{cfg: cfg, code: code, trees: trees{all: map[string]*tree{}, sizes: map[string]int64{}}}
	for _, step := range []func() error{a.makeCache, a.clearCache, a.probeGiving, a.makeRoot} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	if err := a.Ready(); err != nil && !errors.Is(err, ErrLater) {
		return nil, err
	}
	if err := a.openKept(); err != nil {
		return nil, err
	}
	return a, nil
}

// Ready finds out how attempts get their workspace, if that is not known yet.
func (a *Area) Ready() error {
	a.asking.Lock()
	defer a.asking.Unlock()
	if a.asked {
		return nil
	}
	err := a.probe()
	a.asked = err == nil
	return err
}

// Overlay reports whether attempts get an overlay.
func (a *Area) Overlay() bool { return a.overlay.Load() }

// Dir is where an attempt's files lie.
func (a *Area) Dir(job messages.JobID, attempt int) string {
	return filepath.Join(a.cfg.Root, string(job), strconv.Itoa(attempt))
}

// A Workspace is the laid-out workspace of one attempt.
type Workspace struct {
	Dir   string          // of the attempt
	Mount string          // what the container gets
	Given []messages.Path // a sample of what was laid out
	Bytes int64           // of the inputs
	Limit int64           // of the bytes that Inspect lists; 0 is none

	files  string
	lower  []string // of the overlay, the uppermost first
	before map[messages.Path]stamp
	given  int64  // bytes that lay in files before the attempt began
	tree   string // key of the shared extraction in use
}

// Prepare lays out the workspace of an attempt from nothing: what an earlier
// try left is removed. A messages.Failure means that the source is at fault.
func (a *Area) Prepare(ctx context.Context, action *messages.Action) (*Workspace, error) {
	dir := a.Dir(action.Job, action.Attempt)
	if err := a.Remove(action.Job, action.Attempt); err != nil {
		return nil, err
	}
	w := &Workspace{Dir: dir, files: filepath.Join(dir, "files")}
	if err := a.prepare(ctx, action, w); err != nil {
		a.release(w)
		return nil, errors.Join(err, a.Remove(action.Job, action.Attempt))
	}
	return w, nil
}

func (a *Area) prepare(ctx context.Context, action *messages.Action, w *Workspace) error {
	if err := a.archived(action.Workspace); err != nil {
		return err
	}
	if err := a.makeAttempt(w.Dir); err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	if err := os.Mkdir(w.files, 0o755); err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	if err := os.WriteFile(filepath.Join(w.Dir, "owner"), []byte(a.cfg.Worker), 0o600); err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	code, err := a.layCode(ctx, action, w)
	if err != nil {
		return err
	}
	fault.At("worker.between-code-and-inputs")
	layers := []string{code}
	if len(action.Inputs) > 0 {
		inputs := filepath.Join(w.Dir, "inputs")
		if err := a.layInputs(ctx, action, inputs, w); err != nil {
			return err
		}
		layers = []string{inputs, code}
	}
	if !a.overlay.Load() {
		return a.copyAll(ctx, w, layers)
	}
	if err := a.ownFiles(w.files); err != nil {
		return err
	}
	return a.mount(w, layers)
}

// Resume describes the workspace of an attempt whose container outlived its
// worker.
func (a *Area) Resume(job messages.JobID, attempt int, given []messages.Path) (*Workspace, error) {
	if err := job.Check(); err != nil {
		return nil, err
	}
	dir := a.Dir(job, attempt)
	w := &Workspace{Dir: dir, files: filepath.Join(dir, "files"), Given: given}
	if err := a.resume(w); err != nil {
		return nil, fmt.Errorf("resume attempt %d of %s: %w", attempt, job, err)
	}
	return w, nil
}

func (a *Area) resume(w *Workspace) error {
	if _, err := os.Stat(w.files); err != nil {
		return err
	}
	data, err := os.ReadFile(filepath.Join(w.Dir, "lower.json"))
	if errors.Is(err, os.ErrNotExist) {
		w.Mount = w.files
		w.before, err = readBefore(filepath.Join(w.Dir, "before.jsonl"))
		w.given = sizes(w.before)
		return err
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &w.lower); err != nil {
		return err
	}
	if w.Mount = filepath.Join(w.Dir, "workspace"); !mounted(w.Mount) {
		return errors.New("its overlay is not mounted any more")
	}
	for _, l := range w.lower {
		if key, ok := strings.CutPrefix(l, filepath.Join(a.cfg.Cache, "code")+"/"); ok {
			w.tree = key
			a.trees.hold(key)
		}
	}
	return nil
}

// Release ends the use of a workspace's mount, once its container is gone and
// it was listed. The attempt's files stay.
func (a *Area) Release(w *Workspace) error {
	a.release(w)
	if w.lower == nil {
		return nil
	}
	return unmount(w.Mount)
}

func (a *Area) release(w *Workspace) {
	if w.tree != "" {
		a.trees.letGo(w.tree)
		w.tree = ""
	}
}

// Remove deletes all that an attempt has in staging. What is not there is no
// error.
func (a *Area) Remove(job messages.JobID, attempt int) error {
	if err := job.Check(); err != nil {
		return err
	}
	dir := a.Dir(job, attempt)
	if err := unmount(filepath.Join(dir, "workspace")); err != nil {
		return err
	}
	if err := removeAll(dir); err != nil {
		return fmt.Errorf("remove staging of attempt %d of %s: %w", attempt, job, err)
	}
	_ = os.Remove(filepath.Dir(dir)) // the job's folder, if this was its last attempt
	return nil
}
