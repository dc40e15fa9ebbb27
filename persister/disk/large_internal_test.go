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
// in it; unless TestShares says so, nobody knows.
func largeDir(t *testing.T) (dir string, shares bool) {
	t.Helper()
	base := os.Getenv(SharesDir)
	if base == "" {
		return t.TempDir(), false
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
	return dir, true
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
		t.Run(tc.name, func(t *testing.T) {
			dir, _ := largeDir(t)
			dst, src := stageLarge(t, dir, tc.staged)
			err := copyContents(t.Context(), dst, src, messages.File{Path: "f", Size: int64(len(listed)), Digest: messages.Digest(listed)})
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

// TestLargeChanged: what is verified is the copy. It is changed behind the back of
// what copies, or the staged file is once its blocks are shared: then they are
// two files, of which the copy is read.
func TestLargeChanged(t *testing.T) {
	for _, tc := range []struct {
		name    string
		file    func(dst, src *os.File) *os.File
		back    bool // to what it was
		wantErr error
	}{
		{"the copy", func(dst, _ *os.File) *os.File { return dst }, false, errContents},
		{"the copy, and back", func(dst, _ *os.File) *os.File { return dst }, true, nil},
		{"the staged file, and back", func(_, src *os.File) *os.File { return src }, true, nil},
	} {
		for _, at := range []int64{0, step - 1, step, 2*step + 4} {
			t.Run(fmt.Sprintf("%s at %d", tc.name, at), func(t *testing.T) {
				listed := largeData()
				dir, shares := largeDir(t)
				dst, src := stageLarge(t, dir, listed)
				if shared, err := copySteps(t.Context(), dst, src, true, 0, int64(len(listed)), make(chan int64, 3)); err != nil || shared != shares {
					t.Fatalf("the copy shares its blocks: %v, %v", shared, err)
				}
				if got := sameBlocks(dst, src, int64(len(listed))); got != shares {
					t.Fatalf("unchanged, the two have the same blocks: %v", got)
				}
				changed, err := os.OpenFile(tc.file(dst, src).Name(), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer changed.Close()
				b := []byte{listed[at] ^ 1}
				if _, err := changed.WriteAt(b, at); err != nil {
					t.Fatal(err)
				}
				if tc.back {
					b[0] ^= 1
					if _, err := changed.WriteAt(b, at); err != nil {
						t.Fatal(err)
					}
				}
				if sameBlocks(dst, src, int64(len(listed))) {
					t.Error("two files of which one was written to have the same blocks")
				}
				if err := verify(t.Context(), dst, messages.File{Size: int64(len(listed)), Digest: messages.Digest(listed)}); !errors.Is(err, tc.wantErr) {
					t.Errorf("the copy is read: got %v, want %v", err, tc.wantErr)
				}
			})
		}
	}
}

// TestLargeHoles: blocks that are not there are the same, and those that were
// kept free for a file say nothing of it.
func TestLargeHoles(t *testing.T) {
	dir, shares := largeDir(t)
	dst, src := stageLarge(t, dir, nil)
	writer, err := os.OpenFile(src.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	listed := make([]byte, 2*step)
	copy(listed[step+1000:], "in the middle")
	if _, err := writer.WriteAt([]byte("in the middle"), step+1000); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(writer.Truncate(2*step), unix.Fallocate(int(writer.Fd()), 0, step/2, 1<<20), unix.Fallocate(int(writer.Fd()), unix.FALLOC_FL_KEEP_SIZE, 2*step, 1<<20)); err != nil {
		t.Fatal(err)
	}
	if err := copyContents(t.Context(), dst, src, messages.File{Path: "f", Size: 2 * step, Digest: messages.Digest(listed)}); err != nil {
		t.Fatal(err)
	}
	if sameBlocks(dst, src, 2*step) {
		t.Error("a file with blocks that were never written counts as known")
	}
	if err := unix.Fallocate(int(writer.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, step/2, 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := dst.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := copySteps(t.Context(), dst, src, true, 0, 2*step, make(chan int64, 2)); err != nil {
		t.Fatal(err)
	}
	if got := sameBlocks(dst, src, 2*step); got != shares {
		t.Errorf("a copy with holes has the same blocks: %v", got)
	}
}

// TestLargeUnread: a copy that shares its blocks need not be read. Any other
// must be: where it cannot be, nothing is verified, though the staged file is as
// it is listed.
func TestLargeUnread(t *testing.T) {
	listed := largeData()
	dir, shares := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	deaf, err := os.OpenFile(dst.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	err = copyContents(t.Context(), deaf, src, messages.File{Path: "f", Size: int64(len(listed)), Digest: messages.Digest(listed)})
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
	err := copyContents(t.Context(), dst, src, messages.File{Path: "f", Size: int64(len(listed)), Digest: messages.Digest(listed)})
	if !errors.Is(err, errContents) {
		t.Errorf("got %v, want that %v", err, errContents)
	}
}
