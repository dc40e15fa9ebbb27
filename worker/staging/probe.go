package staging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// errUnseen says that containers would find an empty workspace.
var errUnseen = errors.New("the engine does not see what this process mounts: it has mounts of its own (a service's ProtectSystem, PrivateTmp and the like; a container without shared propagation)")

// probe finds out how attempts get their workspace, and says so once if it is
// by copies. The error is of staging that cannot be used either way.
func (a *Area) probe() (err error) {
	dir := filepath.Join(a.cfg.Root, ".probe-"+a.cfg.Worker) // this worker's, so that a killed one's goes too
	if err := removeAll(dir); err != nil {
		return fmt.Errorf("probe staging: %w", err)
	}
	defer func() { err = errors.Join(err, removeAll(dir)) }()
	if err := a.makeAttempt(filepath.Join(dir, "1")); err != nil {
		return fmt.Errorf("probe staging: %w", err)
	}
	seen, known, err := a.seesFiles(dir)
	if err != nil {
		return fmt.Errorf("probe staging: %w", err)
	}
	if !seen {
		return fmt.Errorf("the engine does not see staging %s: it must find the same folder there, on this machine or in this container", a.cfg.Root)
	}
	if a.cfg.Copy {
		return nil
	}
	why := a.probeOverlay(dir)
	if errors.Is(why, ErrLater) {
		return fmt.Errorf("probe staging: %w", why)
	}
	if why == nil && !known {
		why = errors.New("the engine does not tell what it sees of this machine")
	}
	a.overlay.Store(why == nil)
	if why != nil {
		a.cfg.Log.Warn().Err(why).Msg("attempts get no overlay: each one's code and inputs are copied")
	}
	return nil
}

// seesFiles reports whether the engine sees what this process writes. Known is
// whether it can be asked at all: one that says that it sees what is not there
// cannot.
func (a *Area) seesFiles(dir string) (seen, known bool, err error) {
	if a.cfg.Sees == nil {
		return true, true, nil
	}
	file := filepath.Join(dir, "1", "written")
	if err := os.WriteFile(file, nil, a.FileMode()); err != nil {
		return false, false, err
	}
	seen, err = a.cfg.Sees(file)
	if err != nil {
		return false, false, err
	}
	missing, err := a.cfg.Sees(filepath.Join(dir, "1", "missing"))
	return seen, !missing, err
}

// probeOverlay mounts one beneath staging's root, has the engine look for a file
// in it, and takes it away: only there can it be known.
func (a *Area) probeOverlay(dir string) (err error) {
	var paths [4]string
	for i, name := range []string{"lower", "upper", "work", "mount"} {
		paths[i] = filepath.Join(dir, "1", name)
		if err := os.Mkdir(paths[i], 0o755); err != nil {
			return fmt.Errorf("probe for overlays: %w", err)
		}
	}
	if err := os.WriteFile(filepath.Join(paths[0], "mounted"), nil, 0o644); err != nil { //nolint:gosec // empty, and removed at once
		return fmt.Errorf("probe for overlays: %w", err)
	}
	if err := mountOverlay(paths[3], paths[1], paths[2], paths[:1]); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount(paths[3])) }()
	if a.cfg.Sees == nil {
		return nil
	}
	seen, err := a.cfg.Sees(filepath.Join(paths[3], "mounted"))
	if err == nil && !seen {
		err = errUnseen
	}
	return err
}
