package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
)

// tiers have small file systems of their own, so that a fault can fill one and
// nothing else on this machine.
var tiers = []string{"high", "medium"}

// mountTiers makes them, where this user may mount: elsewhere tiers are folders,
// and are never full.
func (f *fleet) mountTiers() error {
	for _, tier := range tiers {
		if err := os.MkdirAll(f.path(tier), 0o755); err != nil { //nolint:gosec // as an operator makes it
			return err
		}
		err := syscall.Mount("tmpfs", f.path(tier), "tmpfs", 0, fmt.Sprintf("size=%d,mode=750", f.tierSize))
		if errors.Is(err, fs.ErrPermission) {
			f.log.say("tiers cannot be full: this user may not mount")
			return nil
		}
		if err != nil {
			return fmt.Errorf("mount a small file system: %w", err)
		}
		f.mounted = append(f.mounted, f.path(tier))
	}
	return nil
}

// unmountTiers takes them away, with all that is in them.
func (f *fleet) unmountTiers() error {
	var errs []error
	for _, path := range f.mounted {
		if err := syscall.Unmount(path, 0); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
		}
	}
	f.mounted = nil
	return errors.Join(errs...)
}

// strikeTier fills a tier to its last byte, for a time.
func (f *fleet) strikeTier(ctx context.Context, b blow) {
	i := b.whom % len(tiers)
	if len(f.mounted) == 0 || !f.filling[i].TryLock() {
		f.log.say("(%s %s: it cannot be, or is already)", b.kind, tiers[i])
		return
	}
	defer f.filling[i].Unlock()
	f.log.say("%s %s, %.1f s", b.kind, tiers[i], b.hold.Seconds())
	ballast := f.path(tiers[i], "ballast")
	if err := fill(ballast); err != nil {
		f.log.say("%s cannot be filled: %v", tiers[i], err)
	}
	pause(ctx, b.hold)
	if err := os.Remove(ballast); err != nil {
		f.log.say("%s stays full: %v", tiers[i], err)
	}
}

// fill makes a file that takes all that its file system has left.
func fill(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	at := int64(0)
	for step := int64(1 << 30); step >= 4096; {
		switch err := syscall.Fallocate(int(file.Fd()), 0, at, step); {
		case err == nil:
			at += step
		case errors.Is(err, syscall.ENOSPC):
			step /= 2
		case !errors.Is(err, syscall.EINTR):
			return err
		}
	}
	return nil
}
