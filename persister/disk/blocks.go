package disk

import (
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// stamp says which state of a file's contents this is: whoever writes to it
// changes its times.
func stamp(f *os.File) (unix.Stat_t, error) {
	var st unix.Stat_t
	err := unix.Fstat(int(f.Fd()), &st)
	return st, err
}

func unchanged(f *os.File, before unix.Stat_t) bool {
	now, err := stamp(f)
	return err == nil && now.Size == before.Size && now.Mtim == before.Mtim && now.Ctim == before.Ctim
}

// sameContents reports whether a copy has the contents that the staged file had
// all the while since before.
func sameContents(dst, src *os.File, before unix.Stat_t, size int64) bool {
	return unchanged(src, before) && sameBlocks(dst, src, size)
}

// sharesBlocks reports whether a file lies where files share blocks and where the
// kernel says truly in which blocks they lie. Others that can clone do not:
// SMB's client answers with places in the file.
func sharesBlocks(f *os.File) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && (st.Type == unix.XFS_SUPER_MAGIC || st.Type == unix.BTRFS_SUPER_MAGIC)
}

// A run is a part of a file that lies in one piece on the disk, in bytes.
type run struct{ at, disk, size uint64 }

// maxRuns bounds what is compared of a file that lies in many pieces.
const maxRuns = 1 << 16

// sameBlocks reports whether two files have the same contents up to a size
// because they are the same blocks of the disk, which is true of no block that
// was written to after it was shared. What the kernel does not say for sure
// counts as a difference.
func sameBlocks(a, b *os.File, size int64) bool {
	first, ok := runsOf(a, uint64(size))
	if !ok {
		return false
	}
	second, ok := runsOf(b, uint64(size))
	return ok && slices.Equal(first, second)
}

// From linux/fiemap.h.
const (
	fiemapIoctl  = 0xc020660b // FS_IOC_FIEMAP
	fiemapSync   = 1          // FIEMAP_FLAG_SYNC: what is in memory only is written first
	fiemapLast   = 0x1        // FIEMAP_EXTENT_LAST
	fiemapMerged = 0x1000     // FIEMAP_EXTENT_MERGED
	fiemapShared = 0x2000     // FIEMAP_EXTENT_SHARED
	fiemapHeader = 32         // bytes
	fiemapExtent = 56         // bytes
	fiemapBatch  = 256        // extents asked for at a time
)

// runsOf asks the kernel where the contents of a file lie, up to a size. Not ok:
// it does not know, or there is more than is looked at, or some of it is not
// shared. Blocks whose place says nothing of their contents (compressed,
// encrypted, inside of other data, not written yet) it does not know.
func runsOf(f *os.File, size uint64) (runs []run, ok bool) {
	buf := make([]uint64, (fiemapHeader+fiemapBatch*fiemapExtent)/8) // of words, for their alignment
	bytes := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(buf))), len(buf)*8)
	e := binary.NativeEndian
	for at := uint64(0); at < size; {
		clear(buf)
		e.PutUint64(bytes[0:], at)
		e.PutUint64(bytes[8:], size-at)
		e.PutUint32(bytes[16:], fiemapSync)
		e.PutUint32(bytes[24:], fiemapBatch)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fiemapIoctl, uintptr(unsafe.Pointer(unsafe.SliceData(buf))))
		runtime.KeepAlive(buf)
		if errno != 0 {
			return nil, false
		}
		count := int(e.Uint32(bytes[20:]))
		if count == 0 {
			break // a hole up to the end
		}
		for i := range min(count, fiemapBatch) {
			x := bytes[fiemapHeader+i*fiemapExtent:]
			r, flags := run{at: e.Uint64(x[0:]), disk: e.Uint64(x[8:]), size: e.Uint64(x[16:])}, e.Uint32(x[40:])
			if flags&^uint32(fiemapLast|fiemapMerged) != fiemapShared || r.size == 0 || r.at+r.size <= at {
				return nil, false
			}
			at = r.at + r.size
			if runs = join(runs, r, size); len(runs) > maxRuns {
				return nil, false
			}
			if flags&fiemapLast != 0 {
				return runs, true
			}
		}
	}
	return runs, true
}

// join appends a run, as far as it lies before a file's end, to the one before
// it if both lie in one piece.
func join(runs []run, r run, size uint64) []run {
	if r.at >= size {
		return runs
	}
	r.size = min(r.size, size-r.at)
	if n := len(runs); n > 0 {
		if last := &runs[n-1]; last.at+last.size == r.at && last.disk+last.size == r.disk {
			last.size += r.size
			return runs
		}
	}
	return append(runs, r)
}
