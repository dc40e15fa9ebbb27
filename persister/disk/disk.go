// Package disk keeps the tiers of persister on file systems.
//
//	<High>/<workspace>/…                 outputs of all tiers, metadata/
//	<Medium>/<workspace>/…               moderately sensitive outputs, messages, metadata/
//	<Logs>/<YYYY-MM>/<job>/…             records of attempts, the job's manifest
//	<State>/journal, locks, tmp          ours; on the file system of the highly sensitive tier
//	<Medium>/.sluice/tmp                 ours; on the file system of the moderately sensitive tier
//
// # How a change becomes visible
//
// Copies get temporary names on their tier's own file system. Under the lock of
// the workspace a plan is written: each rename, each removal. One syncfs makes
// copies and plan durable; then the commit is created. From here the change
// will be finished, by this process or the next: the plan is renamed into the
// journal, its steps are done (each may be done again), directories are synced,
// the manifests come last, and the journal entry is removed. Whoever takes a
// workspace's lock finishes what it finds there first, so that plans never go
// stale.
//
// # What stands in the way
//
// An output may need a folder where the tier has a file, or the other way
// round. The older output goes if it is of the same action, or of one that the
// project no longer has. Anything else stays, and the new files are refused
// before the commit, as they are if the plan could not be carried out to its end
// for another reason. Links are never followed, in staging or in a tier.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sluice/internal/fault"
	"sluice/internal/spread"
	"sluice/messages"
	"sluice/persister"
)

// A Config says where things are. High and Staging are required.
type Config struct {
	Staging string // root of the workers' staging directories
	High    string // base of the highly sensitive tier
	Medium  string // base of the moderately sensitive tier; empty: there is none

	WorkspaceDir func(workspace string) string // in the highly sensitive tier; nil: <High>/<workspace>
	Logs         string                        // empty: <High>/logs
	State        string                        // empty: <High>/.sluice
	Archives     []string                      // of archived workspaces, which no workspace may have the name of

	// Rename moves files out of staging where it lies on the tier's file
	// system, instead of copying them. Only for a worker and a persister of one
	// domain of trust.
	Rename  bool
	Workers int // copies at once of an attempt, of small files and of large ones each

	FileMode, DirMode fs.FileMode // of what is made in the tiers
	Owner, Group      int         // of what is made in the tiers; -1: the process's own
	MediumGroup       int         // of what is made in the moderately sensitive tier; -1: Group

	// Fault, if set, is called with each fault point as it is reached: tests of
	// this package die there, in a build without fault points, too.
	Fault func(point string)
}

// Default returns the configuration of a backend's tiers: for this process's
// user and group, and for nobody else.
func Default(staging, high, medium string) Config {
	return Config{
		Staging: staging, High: high, Medium: medium,
		Workers: 2, FileMode: 0o640, DirMode: 0o750, Owner: -1, Group: -1, MediumGroup: -1,
	}
}

// Study returns the configuration that uses a study's own folder as the highly
// sensitive workspace, and .sluice in it for everything else.
func Study(folder, staging string) Config {
	own := filepath.Join(folder, ".sluice")
	c := Default(staging, own, filepath.Join(own, "medium"))
	c.WorkspaceDir = func(string) string { return folder }
	c.Logs, c.State, c.Rename = filepath.Join(own, "logs"), own, true
	c.FileMode, c.DirMode = 0o644, 0o755 // the folder says who may read what is in it
	return c
}

// ofMedium is the configuration of the moderately sensitive tier.
func (c Config) ofMedium() Config {
	if c.MediumGroup >= 0 {
		c.Group = c.MediumGroup
	}
	return c
}

// withDefaults fills in what was left empty.
func (c Config) withDefaults() Config {
	if c.Logs == "" {
		c.Logs = filepath.Join(c.High, "logs")
	}
	if c.State == "" {
		c.State = filepath.Join(c.High, ".sluice")
	}
	if c.WorkspaceDir == nil {
		high := c.High
		c.WorkspaceDir = func(workspace string) string { return filepath.Join(high, workspace) }
	}
	return c
}

// Check reports every value that cannot work.
func (c Config) Check() error {
	var errs []error
	for _, p := range []struct {
		name, path string
		optional   bool
	}{{"staging", c.Staging, false}, {"high", c.High, false}, {"medium", c.Medium, true}, {"logs", c.Logs, true}, {"state", c.State, true}} {
		switch {
		case p.path == "" && !p.optional:
			errs = append(errs, fmt.Errorf("%s: no folder is set", p.name))
		case p.path != "" && !filepath.IsAbs(p.path):
			errs = append(errs, fmt.Errorf("%s: %s is not an absolute path", p.name, p.path))
		}
	}
	if c.Workers < 1 || c.Workers > 256 {
		errs = append(errs, fmt.Errorf("workers is %d; it must be between 1 and 256", c.Workers))
	}
	if c.FileMode == 0 || c.DirMode == 0 {
		errs = append(errs, errors.New("file and directory modes must be set"))
	}
	if c.Medium != "" && c.Medium == c.High {
		errs = append(errs, errors.New("the two tiers are the same folder"))
	}
	return errors.Join(errs...)
}

// A Store is the tiers on file systems. It has no goroutines of its own.
type Store struct {
	cfg     Config
	staging *os.File
	journal *os.File // plans that must be finished
	locks   *os.File
	tmp     *os.File // of the highly sensitive tier and the records
	medium  *os.File // temporary files of the moderately sensitive tier; nil if there is none

	manifests manifests
	live      sync.Map // the names of this process's drafts
}

// Open makes the folders that are missing and checks that renames within a
// tier are possible. State and <Medium>/.sluice are the store's own; several
// processes may share them.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Store) open() (err error) {
	if err := s.makeOwn(); err != nil {
		return err
	}
	for _, d := range []struct {
		dir     **os.File
		path    string
		private bool
	}{
		{&s.staging, s.cfg.Staging, false},
		{&s.journal, filepath.Join(s.cfg.State, "journal"), true},
		{&s.locks, filepath.Join(s.cfg.State, "locks"), true},
		{&s.tmp, filepath.Join(s.cfg.State, "tmp"), true},
		{&s.medium, s.cfg.mediumTmp(), true},
	} {
		if d.path == "" {
			continue
		}
		cfg := s.cfg
		if d.dir == &s.medium {
			cfg = cfg.ofMedium()
		}
		if *d.dir, err = openRoot(d.path, cfg, d.private); err != nil {
			return err
		}
	}
	spread.Mark(s.tmp.Name())
	if s.medium != nil {
		spread.Mark(s.medium.Name())
	}
	probe, err := openAt(s.tmp, ".", unix.O_PATH|unix.O_DIRECTORY, beneath)
	if err != nil {
		return fmt.Errorf("the kernel, or the sandbox of this process, has no openat2 (Linux 5.6 has), without which no staged file can be opened safely: %w", err)
	}
	if err := probe.Close(); err != nil {
		return err
	}
	if err := errors.Join(probeOwner(s.tmp, s.cfg), probeOwner(s.medium, s.cfg.ofMedium())); err != nil {
		return err
	}
	logs, err := openRoot(s.cfg.Logs, s.cfg, false)
	if err != nil {
		return err
	}
	defer logs.Close()
	return sameFileSystem(s.tmp, logs)
}

// makeOwn makes the folders of the store's own, in which drafts and locks come and
// go all the time: they are not to be in the way of what stays, nor of each other.
func (s *Store) makeOwn() error {
	for path, cfg := range map[string]Config{s.cfg.State: s.cfg, filepath.Dir(s.cfg.mediumTmp()): s.cfg.ofMedium()} {
		if path == "." {
			continue // there is no moderately sensitive tier
		}
		if err := makeRoot(path, cfg, false); err != nil {
			return fmt.Errorf("make folder %s: %w", path, err)
		}
		spread.Mark(path) // before anything is made in it
	}
	return nil
}

// probeOwner finds out whether this process can give files to whom they are to
// belong to; nil is no folder.
func probeOwner(dir *os.File, cfg Config) error {
	if dir == nil || cfg.Owner < 0 && cfg.Group < 0 {
		return nil
	}
	name := fmt.Sprintf("probe-%d", os.Getpid())
	_ = unix.Unlinkat(int(dir.Fd()), name, 0) // a killed process's of this number
	f, err := create(dir, name)
	if err != nil {
		return err
	}
	err = own(f, cfg, 0o600)
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("%w: make this process's user a member of the group", err)
	}
	return errors.Join(err, f.Close(), unix.Unlinkat(int(dir.Fd()), name, 0))
}

// apart reports a workspace whose folder is also one of ours, or has one of
// ours in it where an output could reach it: outputs and records must never
// meet.
func (c Config) apart(workspace string) error {
	dir := c.WorkspaceDir(workspace)
	for _, ours := range append([]string{c.Logs, c.State, c.Staging, c.Medium}, c.Archives...) {
		if ours == "" {
			continue
		}
		inside, errIn := filepath.Rel(ours, dir)
		holds, errHolds := filepath.Rel(dir, ours)
		switch {
		case errIn == nil && filepath.IsLocal(inside), errHolds != nil:
		case !filepath.IsLocal(holds):
			continue
		case strings.HasPrefix(holds+"/", ".sluice/"):
			continue // no output may lie there
		}
		return fmt.Errorf("%w: %s would lie in the same folder as %s", persister.ErrWorkspace, messages.Quote(workspace), ours)
	}
	return nil
}

// mediumTmp is where files wait for the moderately sensitive tier, or "".
func (c Config) mediumTmp() string {
	if c.Medium == "" {
		return ""
	}
	return filepath.Join(c.Medium, ".sluice", "tmp")
}

// openRoot opens a folder that the configuration names, making it first, with
// those above it. What is private is for this process's user alone. What is
// there keeps the mode that an operator gave it.
func openRoot(name string, cfg Config, private bool) (*os.File, error) {
	if err := makeRoot(name, cfg, private); err != nil {
		return nil, fmt.Errorf("make folder %s: %w", name, err)
	}
	f, err := os.OpenFile(name, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open folder %s: %w", name, err)
	}
	return f, nil
}

func makeRoot(name string, cfg Config, private bool) error {
	err := os.Mkdir(name, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeRoot(filepath.Dir(name), cfg, false); err != nil {
			return err
		}
		err = os.Mkdir(name, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil || private {
		return err
	}
	f, err := os.OpenFile(name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return errors.Join(own(f, cfg, uint32(cfg.DirMode.Perm())), f.Close())
}

// sameFileSystem reports folders between which files cannot be renamed.
func sameFileSystem(a, b *os.File) error {
	var x, y unix.Stat_t
	if err := errors.Join(unix.Fstat(int(a.Fd()), &x), unix.Fstat(int(b.Fd()), &y)); err != nil {
		return fmt.Errorf("stat %s and %s: %w", a.Name(), b.Name(), err)
	}
	if x.Dev != y.Dev {
		return fmt.Errorf("%s and %s are on different file systems; files are renamed from one into the other", a.Name(), b.Name())
	}
	return nil
}

// Close frees the store's descriptors.
func (s *Store) Close() error {
	var errs []error
	for _, f := range []*os.File{s.staging, s.journal, s.locks, s.tmp, s.medium} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// fault marks a fault point.
func (s *Store) fault(point string) {
	fault.At(point)
	if s.cfg.Fault != nil {
		s.cfg.Fault(point)
	}
}

// ErrFull is wrapped when a file system has no room.
var ErrFull = errors.New("the file system is full")

// explain adds to an error of a full file system which one it is and how much
// room it has.
func explain(err error, dir *os.File) error {
	if err == nil || !(errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT)) {
		return err
	}
	var st unix.Statfs_t
	if unix.Fstatfs(int(dir.Fd()), &st) != nil {
		return fmt.Errorf("%w: %s: %w", ErrFull, dir.Name(), err)
	}
	free := float64(st.Bavail) * float64(st.Bsize) / (1 << 20)
	return fmt.Errorf("%w: %s has %.1f MiB and %d names free: %w", ErrFull, dir.Name(), free, st.Ffree, err)
}
