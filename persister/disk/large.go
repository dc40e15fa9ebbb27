package disk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sluice/messages"
)

// ahead is how many steps of a copy may wait to be hashed.
const ahead = 8

// copyLarge copies a file step by step, where it can by sharing its blocks, and
// hashes each step while the next ones are copied.
//
// A copy is hashed from memory, where it has just been written. Of one that
// shares blocks nothing is in memory, and to read it from the disk may take
// longer than to write it would have: there the staged file is hashed, and then
// the two must have the same blocks, so that what is hashed is the copy. If that
// cannot be told, the copy is read after all. See
// docs/decisions/7-shared-blocks-are-compared.md.
func copyLarge(ctx context.Context, dst, src *os.File, want messages.File) error {
	before, err := stamp(src)
	if err != nil {
		return err
	}
	first := min(step, want.Size)
	shares, err := cloneStep(dst, src, 0, first)
	if err != nil {
		return err
	}
	hashed, done := dst, int64(0)
	if shares {
		hashed, done = src, first
	}
	group, inner := errgroup.WithContext(ctx)
	copied := make(chan int64, ahead)
	copied <- done
	group.Go(func() (err error) {
		defer close(copied)
		shares, err = copySteps(inner, dst, src, shares, done, want.Size, copied)
		if err == nil && shares {
			err = fsync(dst) // so that the barrier finds little left to do
		}
		return err
	})
	sum := sha256.New()
	group.Go(func() error { return follow(inner, sum, hashed, copied) })
	if err := group.Wait(); err != nil {
		return err
	}
	if messages.FormatDigest(sum.Sum(nil)) != want.Digest {
		return errContents
	}
	if hashed == src && !(shares && unchanged(src, before) && sameBlocks(dst, src, want.Size)) {
		return verify(ctx, dst, want)
	}
	st, err := dst.Stat()
	if err == nil && st.Size() != want.Size {
		return errContents
	}
	return err
}

// copySteps copies a file from some place to its size, and tells how far it is
// after each step. It shares blocks for as long as it can, if it shares, and
// reports whether that was to the end.
func copySteps(ctx context.Context, dst, src *os.File, shares bool, at, size int64, copied chan<- int64) (bool, error) {
	for at < size {
		n := min(size-at, step)
		var err error
		if shares {
			shares, err = cloneStep(dst, src, at, n)
		}
		if err == nil && !shares {
			err = copyStep(dst, src, at, n, size)
		}
		if err != nil {
			return shares, err
		}
		at += n
		select {
		case copied <- at:
		case <-ctx.Done():
			return shares, ctx.Err()
		}
	}
	return shares, nil
}

// cloneStep makes a file share blocks with another, and reports whether it
// could. Why it could not is found again by the copy that is made then, unless
// the kernel says it only once.
func cloneStep(dst, src *os.File, at, n int64) (bool, error) {
	if at > 0 {
		// Written before it is cloned: meanwhile XFS would let nobody read either.
		const written = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		if err := unix.SyncFileRange(int(src.Fd()), at, n, written); err != nil {
			return false, fmt.Errorf("write %s to the disk: %w", src.Name(), explain(err, src))
		}
	}
	err := unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
		Src_fd: int64(src.Fd()), Src_offset: uint64(at), Src_length: uint64(n), Dest_offset: uint64(at),
	})
	if errors.Is(err, unix.EIO) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return false, fmt.Errorf("share blocks: %w", explain(err, dst))
	}
	return err == nil, nil
}

// copyStep lets the kernel copy a step.
func copyStep(dst, src *os.File, at, n, size int64) error {
	if err := seek(at, dst, src); err != nil {
		return err
	}
	done, err := io.CopyN(dst, src, n)
	if errors.Is(err, io.EOF) {
		return ended(at+done, size)
	}
	if err != nil {
		return fmt.Errorf("copy: %w", explain(err, dst))
	}
	// The disk starts on it while the rest is copied and hashed; the barrier
	// is what makes it durable, so an error is left for that.
	_ = unix.SyncFileRange(int(dst.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
	return nil
}

// seek goes on at some place of files.
func seek(at int64, files ...*os.File) error {
	for _, f := range files {
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// follow hashes a file as far as it is copied.
func follow(ctx context.Context, sum hash.Hash, f *os.File, copied <-chan int64) error {
	at := int64(0)
	for {
		select {
		case end, more := <-copied:
			if !more {
				return nil
			}
			n, err := digest(ctx, sum, io.NewSectionReader(f, at, end-at), end-at)
			if err != nil {
				return fmt.Errorf("digest %s: %w", f.Name(), err)
			}
			if n != end-at {
				return errContents
			}
			at = end
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
