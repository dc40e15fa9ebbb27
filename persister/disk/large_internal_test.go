package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// SharesDir names the folder that TestLarge is to work in, where blocks are
// shared: TestShares runs it again there.
const SharesDir = "SLUICE_TEST_SHARES"

// largeDir makes a folder for a test, and reports whether files share blocks
// in it.
func largeDir(t *testing.T) (dir string, shares bool) {
	t.Helper()
	base := os.Getenv(SharesDir)
	if base == "" {
		base = t.TempDir()
	}
	dir, err := os.MkdirTemp(base, "large-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if shares = sharesBlocks(d); !shares && os.Getenv(SharesDir) != "" {
		t.Fatal("the file system shares no blocks")
	}
	return dir, shares
}

// largeData is of two steps and a bit, no two blocks of it alike.
func largeData() []byte {
	data := make([]byte, 2*step+5)
	rand.NewChaCha8([32]byte{}).Read(data) //nolint:errcheck // it has none
	return data
}

// stageLarge writes a staged file and a file for its copy.
func stageLarge(t *testing.T, dir string, data []byte) (dst, src *os.File) {
	t.Helper()
	name := filepath.Join(dir, "staged")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	src, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	dst, err = os.Create(filepath.Join(dir, "copy"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(src.Close(), dst.Close()); err != nil {
			t.Error(err)
		}
	})
	return dst, src
}

// TestLarge: a copy of several steps is the file as it is listed, or refused.
func TestLarge(t *testing.T) {
	listed := largeData()
	honest := marksOf(t, listed)
	changed := func(at int) []byte {
		data := bytes.Clone(listed)
		data[at] ^= 1
		return data
	}
	for _, tc := range []struct {
		name    string
		staged  []byte
		wantErr string
	}{
		{name: "as listed", staged: listed},
		{name: "grown", staged: append(bytes.Clone(listed), "more, and unaligned"...)},
		{name: "changed in the first step", staged: changed(0), wantErr: errContents.how},
		{name: "changed in the second", staged: changed(2*step - 1), wantErr: errContents.how},
		{name: "changed in the last", staged: changed(len(listed) - 1), wantErr: errContents.how},
		{name: "cut within a step", staged: listed[:step+10], wantErr: "it ended after 33554442 bytes; 67108869 are listed"},
		{name: "cut between two", staged: listed[:step], wantErr: "it ended after 33554432 bytes; 67108869 are listed"},
	} {
		for with, marks := range map[string]*messages.Milestones{"alone": nil, "milestones": honest} {
			t.Run(tc.name+", "+with, func(t *testing.T) {
				dir, _ := largeDir(t)
				dst, src := stageLarge(t, dir, tc.staged)
				err := copyContents(t.Context(), dst, src, wantedOf(listed).with(marks))
				if tc.wantErr != "" {
					if bad := (*differs)(nil); !errors.As(err, &bad) || bad.how != tc.wantErr {
						t.Fatalf("got %v, want that %s", err, tc.wantErr)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, listed) {
					t.Errorf("the copy has %d bytes, not those that are listed; %v", len(got), err)
				}
			})
		}
	}
}

// TestLargeSizes: on both sides of each bound a copy is the file, and one byte
// of another is refused.
func TestLargeSizes(t *testing.T) {
	all := largeData()
	for _, size := range []int{0, 1, small - 1, small, small + 1, step - 1, step, step + 1} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			dir, _ := largeDir(t)
			listed := all[:size]
			dst, src := stageLarge(t, dir, listed)
			want := wantedOf(listed)
			if err := copyContents(t.Context(), dst, src, want); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, listed) {
				t.Errorf("the copy has %d bytes, not those that are listed; %v", len(got), err)
			}
			if want.Digest = messages.Digest(append(bytes.Clone(listed), 0)); size == 0 {
				return
			}
			if err := errors.Join(dst.Truncate(0), seek(0, dst, src)); err != nil {
				t.Fatal(err)
			}
			if err := copyContents(t.Context(), dst, src, want); !errors.Is(err, errContents) {
				t.Errorf("got %v, want that %v", err, errContents)
			}
		})
	}
}

// wantedOf is a file as it is listed, without milestones.
func wantedOf(listed []byte) wanted {
	return wanted{File: messages.File{Path: "f", Size: int64(len(listed)), Digest: messages.Digest(listed)}}
}

// clone has a copy share all blocks of a staged file.
func clone(dst, src *os.File, size int64) bool {
	for at := int64(0); at < size; at += step {
		if !cloneStep(dst, src, at, min(size-at, step)) {
			return false
		}
	}
	return true
}

// TestLargeChanged: two files of which one was written to after they shared
// their blocks are two files, though it was written to as it was.
func TestLargeChanged(t *testing.T) {
	listed := largeData()
	size := int64(len(listed))
	for _, which := range []string{"copy", "staged"} {
		for _, at := range []int64{0, step - 1, step, size - 1} {
			t.Run(fmt.Sprintf("%s at %d", which, at), func(t *testing.T) {
				dir, shares := largeDir(t)
				dst, src := stageLarge(t, dir, listed)
				if got := clone(dst, src, size); got != shares {
					t.Fatalf("the copy shares its blocks: %v", got)
				}
				before, err := stamp(src)
				if err != nil {
					t.Fatal(err)
				}
				if got := sameContents(dst, src, before, size); got != shares {
					t.Fatalf("unchanged, the two have the same contents: %v", got)
				}
				changed, err := os.OpenFile(filepath.Join(dir, which), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer changed.Close()
				if _, err := changed.WriteAt(listed[at:at+1], at); err != nil {
					t.Fatal(err)
				}
				if sameContents(dst, src, before, size) || sameBlocks(dst, src, size) {
					t.Error("two files of which one was written to count as one")
				}
			})
		}
	}
}

// TestLargeStamp: a staged file whose times have changed since counts as changed,
// whatever its blocks are.
func TestLargeStamp(t *testing.T) {
	dir, _ := largeDir(t)
	dst, src := stageLarge(t, dir, largeData())
	before, err := stamp(src)
	if err != nil {
		t.Fatal(err)
	}
	clone(dst, src, 2*step+5)
	before.Ctim.Nsec--
	if sameContents(dst, src, before, 2*step+5) {
		t.Error("a staged file with another time counts as unchanged")
	}
}

// TestLargeHoles: blocks that are not there are the same. Those that were kept
// for a file and not written say nothing of its contents: the copy is read, or
// nothing is verified.
func TestLargeHoles(t *testing.T) {
	const size, block = 8 << 20, 4096
	data := largeData()[:block]
	listed := make([]byte, size)
	for at := 0; at < size; at += 2 * block { // more pieces than the kernel is asked for at a time
		copy(listed[at:], data)
	}
	for _, unwritten := range []bool{false, true} {
		t.Run(fmt.Sprintf("unwritten %v", unwritten), func(t *testing.T) {
			dir, shares := largeDir(t)
			dst, src := stageLarge(t, dir, nil)
			writer, err := os.OpenFile(src.Name(), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer writer.Close()
			err = writer.Truncate(size) // first, or XFS keeps blocks where the file grows
			for at := int64(0); at < size && err == nil; at += 2 * block {
				_, err = writer.WriteAt(data, at)
			}
			if err := errors.Join(err, unix.Fallocate(int(writer.Fd()), unix.FALLOC_FL_KEEP_SIZE, size, 1<<20)); err != nil {
				t.Fatal(err)
			}
			if unwritten {
				if err := unix.Fallocate(int(writer.Fd()), 0, block, block); err != nil {
					t.Fatal(err)
				}
			}
			want := wantedOf(listed)
			if err := copyContents(t.Context(), deaf(t, dst), src, want); shares && !unwritten {
				if err != nil {
					t.Errorf("a copy that shares its blocks was read: %v", err)
				}
			} else if !errors.Is(err, unix.EBADF) {
				t.Errorf("got %v, want that the copy cannot be read", err)
			}
			if err := copyContents(t.Context(), dst, src, want); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(dst.Name()); err != nil || !bytes.Equal(got, listed) {
				t.Errorf("the copy has %d bytes, not those that are listed; %v", len(got), err)
			}
			if _, err := writer.WriteAt(data, size-2*block); err != nil {
				t.Fatal(err)
			}
			if sameBlocks(dst, src, size) {
				t.Error("a change of the last piece is not seen")
			}
		})
	}
}

// deaf opens a file that cannot be read.
func deaf(t *testing.T, f *os.File) *os.File {
	t.Helper()
	d, err := os.OpenFile(f.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestLargeUnread: a copy that shares its blocks need not be read. Any other
// must be: where it cannot be, nothing is verified, though the staged file is as
// it is listed.
func TestLargeUnread(t *testing.T) {
	listed := largeData()
	dir, shares := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	err := copyContents(t.Context(), deaf(t, dst), src, wantedOf(listed))
	switch {
	case shares && err != nil:
		t.Errorf("a copy that shares its blocks was read: %v", err)
	case !shares && !errors.Is(err, unix.EBADF):
		t.Errorf("got %v, want that the copy cannot be read", err)
	}
}

// TestLargeLonger: a copy that has more than what is listed is refused, too.
func TestLargeLonger(t *testing.T) {
	listed := largeData()
	dir, _ := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	if err := dst.Truncate(3 * step); err != nil {
		t.Fatal(err)
	}
	err := copyContents(t.Context(), dst, src, wantedOf(listed))
	if !errors.Is(err, errContents) {
		t.Errorf("got %v, want that %v", err, errContents)
	}
}
