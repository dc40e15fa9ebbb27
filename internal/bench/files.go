package bench

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/jetstream"
)

// w3: a job that writes 1,000 small files and a large one, all collected, half
// of the small ones into both tiers.
func w3(ctx context.Context, b *Bench) error {
	f, err := b.useFleet(ctx)
	if err != nil {
		return err
	}
	var job, persist, bareJob, bareLoop []time.Duration
	n := b.rounds(3)
	for i := range n {
		// Both start from files that were only just written, as ours do: a sync
		// writes those, too.
		b.say("round %d of %d, bare", i+1, n)
		var took, loop time.Duration
		began := time.Now()
		err = b.bareFiles(ctx, func(ctx context.Context, from, to string) error {
			err := copyAndSync(ctx, from, to)
			took = time.Since(began)
			return err
		})
		if err != nil {
			return err
		}
		err = b.bareFiles(ctx, func(ctx context.Context, from, to string) (err error) {
			loop, err = timed(func() error { return copyHashSync(from, to) })
			return err
		})
		if err != nil {
			return err
		}
		if err := b.settled(ctx); err != nil {
			return err
		}
		b.say("round %d of %d, ours", i+1, n)
		var mine time.Duration
		heard, err := f.hear(ctx, func() (err error) {
			mine, err = timed(func() error { return f.run(ctx, f.study.Source, fmt.Sprintf("w3-%d", i), "files") })
			return err
		})
		if err != nil {
			return err
		}
		kept, err := persistTime(heard)
		if err != nil {
			return err
		}
		job, persist, bareJob, bareLoop = append(job, mine), append(persist, kept), append(bareJob, took), append(bareLoop, loop)
		if err := b.settled(ctx); err != nil {
			return err
		}
	}
	b.add("1,000 × 4 KiB and 256 MiB, submit to outcome", "ms", times(job), "bare job, cp -r, sync", times(bareJob), "<= 1.3")
	aim := "<= 1.1"
	if sharesBlocks(b.scratch) {
		aim = "<= 0.4"
	}
	b.add("of that, files reported to verdict", "ms", times(persist), "bare Go loop: copy, SHA-256, sync", times(bareLoop), aim)
	return nil
}

// persistTime is from the files message to the persister's verdict.
func persistTime(heard []jetstream.Tapped) (time.Duration, error) {
	var from, to time.Time
	for _, t := range heard {
		switch {
		case strings.HasPrefix(t.Subject, "sluice.files."):
			from = t.At
		case strings.HasPrefix(t.Subject, "sluice.event.persister."):
			to = t.At
		}
	}
	if from.IsZero() || to.IsZero() {
		return 0, errors.New("nothing was heard of the persister")
	}
	return to.Sub(from), nil
}

// bareFiles runs the same script in a bare container on a folder, and keeps
// what it leaves in another.
func (b *Bench) bareFiles(ctx context.Context, keep func(ctx context.Context, from, to string) error) (err error) {
	e, dir := b.engine, filepath.Join(b.scratch, "w3")
	left, kept := filepath.Join(dir, "left"), filepath.Join(dir, "kept")
	if err := os.MkdirAll(left, 0o755); err != nil { //nolint:gosec // nothing in it is secret
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.Chmod(left, 0o777); err != nil { //nolint:gosec // a container's user writes it
		return err
	}
	if err := e.Bare(ctx, e.ref, []string{"/bin/sh", "-c", manyFiles}, e.spec(left)); err != nil {
		return err
	}
	return keep(ctx, left, kept)
}

func copyAndSync(ctx context.Context, from, to string) error {
	if out, err := exec.CommandContext(ctx, "cp", "-r", from, to).CombinedOutput(); err != nil { //nolint:gosec // our own folders
		return fmt.Errorf("cp -r: %w: %s", err, out)
	}
	return syncFiles(to)
}

// copyHashSync is the least that keeping files with their digests takes: copy
// by the kernel, hash the copy, sync once.
func copyHashSync(from, to string) error {
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755) //nolint:gosec // nothing in it is secret
		}
		return copyHash(path, filepath.Join(to, rel))
	})
	if err != nil {
		return err
	}
	return syncFiles(to)
}

func copyHash(from, to string) (err error) {
	in, err := os.Open(from) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // nothing in it is secret
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if sharesBlocks(from) { // a copy by the kernel would not be one
		_, err = io.Copy(io.MultiWriter(out, sha256.New()), in)
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(sha256.New(), out)
	return err
}

// sharesBlocks reports whether two files of a path's file system can share
// blocks, so that a copy costs nothing.
func sharesBlocks(path string) bool {
	kind := fileSystem(path)
	return kind == "btrfs" || kind == "xfs"
}

// syncFiles makes all of a file system durable.
func syncFiles(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // our own folder
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
