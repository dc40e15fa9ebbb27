package staging

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sluice/messages"
)

// ErrChanging is wrapped when a file changed while it was read: something
// still writes, or the disk is at fault.
var ErrChanging = errors.New("the file changed while it was read")

// buffers are what files are read into: most attempts leave a few small ones, and
// to clear so much memory for each would cost more than to hash them.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// hashers is how many files of an attempt are hashed at a time.
const hashers = 2

// digests hashes the regular files, large ones first: the last of them must not
// begin when all others are done.
func digests(ctx context.Context, root *os.File, files []sighting) error {
	early := sharesBlocks(root)
	order := make([]*sighting, 0, len(files))
	for i := range files {
		if files[i].Kind == messages.KindFile {
			order = append(order, &files[i])
		}
	}
	const large = 1 << 20 // smaller ones stay as the walk met them
	slices.SortStableFunc(order, func(a, b *sighting) int { return cmp.Compare(max(b.Size, large), max(a.Size, large)) })
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(hashers, len(order)) {
		group.Go(func() error {
			buf := buffers.Get().(*[256 << 10]byte)
			defer buffers.Put(buf)
			for {
				i := int(next.Add(1)) - 1
				if i >= len(order) {
					return nil
				}
				f := order[i]
				if err := digest(ctx, root, f, buf[:], early); err != nil {
					return fmt.Errorf("read %s: %w", f.Path, err)
				}
			}
		})
	}
	return group.Wait()
}

// sharesBlocks reports whether a folder lies on a file system whose files can share
// their blocks, by what statfs says: there a persister clones them.
func sharesBlocks(folder *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(folder.Fd()), &st) == nil && (st.Type == unix.XFS_SUPER_MAGIC || st.Type == unix.BTRFS_SUPER_MAGIC)
}

// largeFile is from which size on the kernel is told to write a file to the disk
// while it is hashed: before blocks are shared they have to be there. Elsewhere
// what is soon copied and removed need never be written.
const largeFile = 32 << 20

// digest hashes one file and makes sure that it stayed as it was seen. Early has a
// large one written to the disk meanwhile.
func digest(ctx context.Context, root *os.File, f *sighting, buf []byte, early bool) error {
	in, err := openBeneath(root, string(f.Path))
	if err != nil {
		return err
	}
	defer in.Close()
	if err := sameStamp(in, f.stamp); err != nil {
		return err
	}
	if early && f.Size >= largeFile {
		_ = unix.SyncFileRange(int(in.Fd()), 0, 0, unix.SYNC_FILE_RANGE_WRITE) // begins it; what goes wrong meets whoever syncs
	}
	sum := messages.NewSum(f.Size)
	n, err := io.CopyBuffer(sum, io.LimitReader(reader{ctx, in}, f.Size+1), buf)
	if err != nil {
		return err
	}
	if n != f.Size {
		return ErrChanging
	}
	f.Digest, f.marks = sum.Digest(), sum.Milestones(f.Path)
	return sameStamp(in, f.stamp)
}

func sameStamp(f *os.File, want stamp) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return err
	}
	if kindOf(&st) != messages.KindFile || stampOf(&st) != want {
		return ErrChanging
	}
	return nil
}

// A reader ends with its context: a sparse file may take hours to hash.
type reader struct {
	ctx context.Context
	r   io.Reader
}

func (r reader) Read(b []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.r.Read(b)
}

// layers are the lower layers of an overlay, the uppermost first.
type layers []*os.File

func openLayers(paths []string) (layers, error) {
	var l layers
	for _, p := range paths {
		dir, err := os.OpenFile(p, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			l.close()
			return nil, err
		}
		l = append(l, dir)
	}
	return l, nil
}

func (l layers) close() {
	for _, dir := range l {
		_ = dir.Close()
	}
}

// have reports whether a file of the upper layer is a copy of what the attempt
// was given: opening a file for writing copies it up.
func (l layers) have(f messages.File) bool {
	if f.Kind != messages.KindFile {
		return false
	}
	for _, layer := range l {
		given, err := openBeneath(layer, string(f.Path))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return false
		}
		same := sameAs(given, f)
		_ = given.Close()
		return same // the uppermost layer that has it is what the attempt saw
	}
	return false
}

func sameAs(given *os.File, f messages.File) bool {
	info, err := given.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
		return false
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, given); err != nil {
		return false
	}
	return messages.FormatDigest(sum.Sum(nil)) == f.Digest
}
