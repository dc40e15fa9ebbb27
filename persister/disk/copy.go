package disk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// step is how much is copied or hashed between two looks at the context, and
// how much the disk is given to write while more is copied. It is a multiple of
// every block size, so that the kernel can share blocks instead of copying them,
// and of the distance between milestones.
const step = 32 << 20

// copyOne takes file i to its temporary name and verifies it.
func (d *draft) copyOne(ctx context.Context, i int) error {
	want := d.want(i)
	if d.from == nil {
		return &differs{"it is missing, with all of the attempt's staging directory"}
	}
	src, st, err := openRegular(d.from, string(want.Path))
	if err != nil {
		return blame(err)
	}
	defer src.Close()
	if st.Size != want.Size {
		return &differs{fmt.Sprintf("it has %d bytes; %d are listed", st.Size, want.Size)}
	}
	if d.canRename(src, st, want.Time) {
		d.staged[i] = true
		return verify(ctx, src, want)
	}
	return d.copyTo(ctx, d.dir, highName(i), src, want)
}

// copyTo copies an open file to a new temporary name and verifies the copy.
func (d *draft) copyTo(ctx context.Context, dir *os.File, name string, src *os.File, want wanted) error {
	dst, err := create(dir, name)
	if err != nil {
		return err
	}
	defer dst.Close()
	if err := copyContents(ctx, dst, src, want); err != nil {
		return err
	}
	if err := own(dst, d.cfgOf(dir), uint32(d.s.cfg.FileMode.Perm())); err != nil {
		return err
	}
	return setTime(dst, want.Time)
}

// setTime gives a file the time at which the action wrote it: manifests show
// it, and a second try to move the file knows it by that.
func setTime(f *os.File, at time.Time) error {
	if at.IsZero() {
		return nil
	}
	ts := unix.NsecToTimespec(at.UnixNano())
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), []unix.Timespec{ts, ts}, 0); err != nil {
		return fmt.Errorf("set time of %s: %w", f.Name(), err)
	}
	return nil
}

func highName(i int) string   { return "h" + strconv.Itoa(i) }
func mediumName(i int) string { return "m" + strconv.Itoa(i) }

// canRename reports whether a file can be moved as it lies in staging, and
// gives it the mode and the owner that it needs in the tier.
func (d *draft) canRename(src *os.File, st unix.Stat_t, at time.Time) bool {
	if !d.s.cfg.Rename || sameFileSystem(src, d.dir) != nil {
		return false
	}
	owner, group := d.s.cfg.Owner, d.s.cfg.Group
	if owner < 0 {
		owner = os.Geteuid()
	}
	if group < 0 {
		group = os.Getegid()
	}
	if (int(st.Uid) != owner || int(st.Gid) != group) && unix.Fchown(int(src.Fd()), owner, group) != nil {
		return false // not ours to give away: copied instead
	}
	return unix.Fchmod(int(src.Fd()), uint32(d.s.cfg.FileMode.Perm())) == nil && setTime(src, at) == nil
}

// small is up to how large a file is copied through memory. To share blocks
// costs a fixed price: the disk writes what is in memory of the staged file, and
// notes the sharing, while everybody waits; three to six times what it costs to
// write 4 KiB again. Nor is the disk told to begin: the barrier does it for all.
const small = 1 << 20

// copyContents copies a file, and verifies the copy. The copy ends at the listed
// size, however much a file grows meanwhile.
func copyContents(ctx context.Context, dst, src *os.File, want wanted) error {
	if want.Size > small {
		if err := copyLarge(ctx, dst, src, want); err != nil {
			return err
		}
		return ends(dst, want.Size)
	}
	if err := copyStep(dst, src, 0, want.Size, want.Size, false); err != nil {
		return err
	}
	return verify(ctx, dst, want)
}

// ends reports a file that is longer or shorter than it should be.
func ends(f *os.File, size int64) error {
	st, err := f.Stat()
	if err == nil && st.Size() != size {
		return errContents
	}
	return err
}

// verify compares a file's contents with its listing.
func verify(ctx context.Context, f *os.File, want wanted) error {
	if want.marks != nil {
		err := inSteps(ctx, f, want, func(int64, int64) error { return nil })
		switch {
		case err == nil:
			return ends(f, want.Size)
		case !errors.Is(err, errContents):
			return err
		} // else its milestones may be what is wrong
	}
	sum := sha256.New()
	size, err := digest(ctx, sum, io.NewSectionReader(f, 0, want.Size+1), want.Size)
	if err != nil {
		return fmt.Errorf("digest %s: %w", f.Name(), err)
	}
	if size != want.Size || messages.FormatDigest(sum.Sum(nil)) != want.Digest {
		return errContents
	}
	return nil
}

// buffers are for what is read of a file at a time.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

func digest(ctx context.Context, sum hash.Hash, f io.Reader, size int64) (total int64, err error) {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		n, err := f.Read(*buf)
		sum.Write((*buf)[:n])
		total += int64(n)
		if errors.Is(err, io.EOF) || total > size {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// create makes a temporary file.
func create(dir *os.File, name string) (*os.File, error) {
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file in %s: %w", dir.Name(), explain(err, dir))
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
}

// differs says how a staged file is not as it was listed.
type differs struct{ how string }

func (e *differs) Error() string { return e.how }

var errContents = &differs{"its contents are not those that are listed"}

// blame turns an error of opening a staged file into a differs, if whoever
// wrote to staging since the listing is to blame; other errors are ours.
func blame(err error) error {
	switch {
	case errors.Is(err, errNotRegular), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return &differs{errNotRegular.Error()}
	case errors.Is(err, errLinked):
		return &differs{errLinked.Error()}
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return &differs{"it, or a folder above it, is a link or lies on another file system"}
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return &differs{"it is missing"}
	case errors.Is(err, unix.ENAMETOOLONG):
		return &differs{"its path is too long"}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return &differs{"it cannot be read: permission denied"}
	}
	return err
}
