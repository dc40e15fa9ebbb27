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

// ahead is how many steps of a copy may wait for their verification. They are
// in memory by then.
const ahead = 8

// copyLarge does for a file of several steps, the first of which is cloned, what
// copyContents does, step by step: while one is cloned, the one before is read
// from the copy and hashed. The copy is what is verified, all of it, each step
// after it was written.
//
// Three things would otherwise wait for one another: the kernel writes to the
// disk what it has in memory of the staged file; the clone, of which nothing is
// in memory, is read from there; the disk makes it durable. So a step is read
// into memory as soon as it is cloned, and the disk told to make the whole
// durable while the last ones are still hashed. The barrier, which is what
// counts, finds little left to do.
func copyLarge(ctx context.Context, dst, src *os.File, want messages.File) error {
	group, inner := errgroup.WithContext(ctx)
	copied := make(chan int64, ahead)
	copied <- step
	group.Go(func() error {
		shares, err := copySteps(inner, dst, src, step, want.Size, copied)
		if err != nil {
			return err
		}
		close(copied)
		if !shares {
			return nil // the disk is at it since the last step was copied
		}
		return fsync(dst)
	})
	sum := sha256.New()
	group.Go(func() error { return follow(inner, sum, dst, copied) })
	if err := group.Wait(); err != nil {
		return err
	}
	st, err := dst.Stat()
	if err != nil {
		return err
	}
	if st.Size() != want.Size || messages.FormatDigest(sum.Sum(nil)) != want.Digest {
		return errContents
	}
	return nil
}

// copySteps copies a file up to its size, and tells how far it is after each
// step. It reports whether the copy shares all blocks.
func copySteps(ctx context.Context, dst, src *os.File, at, size int64, copied chan<- int64) (shares bool, err error) {
	shares = true
	for at < size {
		n := min(size-at, step)
		if shares {
			if shares, err = cloneStep(dst, src, at, n); err == nil && !shares {
				err = seek(at, dst, src)
			}
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
		// Written before it is cloned: meanwhile XFS would let nobody read the clone.
		const written = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
		if err := unix.SyncFileRange(int(src.Fd()), at, n, written); err != nil {
			return false, fmt.Errorf("write %s to the disk: %w", src.Name(), explain(err, src))
		}
	}
	err := unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
		Src_fd: int64(src.Fd()), Src_offset: uint64(at), Src_length: uint64(n), Dest_offset: uint64(at),
	})
	switch {
	case err == nil:
		load(dst, at, n)
		return true, nil
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return false, fmt.Errorf("share blocks: %w", explain(err, dst))
	}
	return false, nil
}

// load has part of a file read into memory, and does not wait for it.
func load(f *os.File, at, n int64) {
	const request = 512 << 10 // the kernel cuts off what is much more
	for end := at + n; at < end; at += request {
		if unix.Fadvise(int(f.Fd()), at, min(end-at, request), unix.FADV_WILLNEED) != nil {
			return // it is read when it is hashed, then
		}
	}
}

// seek goes on at some place of files of which nothing was read or written.
func seek(at int64, files ...*os.File) error {
	for _, f := range files {
		if _, err := f.Seek(at, io.SeekStart); err != nil {
			return err
		}
	}
	return nil
}

// copyStep lets the kernel copy a step, from where both files are.
func copyStep(dst, src *os.File, at, n, size int64) error {
	done, err := io.CopyN(dst, src, n)
	if errors.Is(err, io.EOF) {
		return &differs{fmt.Sprintf("it ended after %d bytes; %d are listed", at+done, size)}
	}
	if err != nil {
		return fmt.Errorf("copy: %w", explain(err, dst))
	}
	// The disk starts on it while the rest is copied and hashed; the barrier
	// is what makes it durable, so an error is left for that.
	_ = unix.SyncFileRange(int(dst.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
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
