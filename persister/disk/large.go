package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// copyLarge copies a file step by step, and hashes each step while the next ones
// are copied. What is hashed is the copy, from memory, where it has just been
// written.
//
// On a file system that shares blocks nothing of a copy is in memory, and to read
// it from the disk may take longer than to write it would have: there it is
// tried to do without. See docs/decisions/7-shared-blocks-are-compared.md.
func copyLarge(ctx context.Context, dst, src *os.File, want wanted) error {
	shares := sharesBlocks(dst)
	if shares {
		if known, err := shareLarge(ctx, dst, src, want); known || err != nil {
			return err
		}
	}
	do := func(at, n int64) error {
		if err := copyStep(dst, src, at, n, want.Size, !shares); err != nil { // the kernel would share again, where it can
			return err
		}
		// The disk starts on it while the rest is copied and hashed; the barrier
		// is what makes it durable, so an error is left for that.
		_ = unix.SyncFileRange(int(dst.Fd()), at, n, unix.SYNC_FILE_RANGE_WRITE)
		return nil
	}
	err := inSteps(ctx, dst, want, do)
	if want.marks != nil && errors.Is(err, errContents) {
		want.marks = nil
		err = inSteps(ctx, dst, want, do)
	}
	return err
}

// shareLarge has the copy share the blocks of the staged file, which is hashed:
// if the two have the same blocks at the end, it is the copy that was. Not known:
// they have not, or nobody can tell, and a copy is needed after all.
func shareLarge(ctx context.Context, dst, src *os.File, want wanted) (known bool, err error) {
	before, err := stamp(src)
	if err != nil {
		return false, err
	}
	err = inSteps(ctx, src, want, func(at, n int64) error {
		if !cloneStep(dst, src, at, n) {
			return errNotShared
		}
		if at > 0 && at+n == want.Size {
			return fsync(dst) // so that the barrier finds little left to do
		}
		return nil
	})
	switch {
	case errors.Is(err, errNotShared):
		return false, nil
	case want.marks != nil && errors.Is(err, errContents):
		return false, nil // not by its milestones; and what else went wrong meanwhile is not known
	case err != nil:
		return false, err
	}
	return sameContents(dst, src, before, want.Size), nil
}

var errNotShared = errors.New("the copy cannot share the staged file's blocks")

// cloneStep makes a file share blocks with another, and reports whether it could.
// What was wrong, if anything was, the copy meets that is made then. After an
// error of the disk that is the way: what is in memory is right, and the kernel
// tells of such an error only once.
func cloneStep(dst, src *os.File, at, n int64) bool {
	// Written before it is cloned: meanwhile XFS would let nobody read either. Of
	// the first step nothing is read yet, and it may be found that none is cloned.
	const written = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	if at > 0 && unix.SyncFileRange(int(src.Fd()), at, n, written) != nil {
		return false
	}
	return unix.IoctlFileCloneRange(int(dst.Fd()), &unix.FileCloneRange{
		Src_fd: int64(src.Fd()), Src_offset: uint64(at), Src_length: uint64(n), Dest_offset: uint64(at),
	}) == nil
}

// copyStep copies a step, as the kernel does it best or through memory.
func copyStep(dst, src *os.File, at, n, size int64, kernel bool) error {
	if err := seek(at, dst, src); err != nil {
		return err
	}
	to := io.Writer(dst)
	if !kernel {
		to = struct{ io.Writer }{dst} // which the kernel is not asked to copy to
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	done, err := io.CopyBuffer(to, io.LimitReader(src, n), *buf)
	if err != nil {
		return fmt.Errorf("copy: %w", explain(err, dst))
	}
	if done < n {
		return &differs{fmt.Sprintf("it ended after %d bytes; %d are listed", at+done, size)}
	}
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
