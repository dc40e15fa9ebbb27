package disk

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sync/errgroup"
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

// TestLargeCopyIsRead: what is verified is the copy. Each step of it is changed
// behind the back of what copies, and the staged file is as it is listed.
func TestLargeCopyIsRead(t *testing.T) {
	listed := largeData()
	dir, shares := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	other, err := os.OpenFile(dst.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	sum := sumOf(t, dst, src, func(at int64) {
		b := make([]byte, 1)
		if _, err := other.ReadAt(b, at-1); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := other.WriteAt(b, at-1); err != nil {
			t.Fatal(err)
		}
	}, shares)
	for _, at := range []int{step, 2 * step, len(listed)} {
		listed[at-1] ^= 1
	}
	if sum != messages.Digest(listed) {
		t.Error("the digest is not that of the copy")
	}
}

// TestLargeAfterwards: a change of the staged file comes too late once a step
// of it is copied, and does not reach the copy.
func TestLargeAfterwards(t *testing.T) {
	listed := largeData()
	dir, shares := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	writer, err := os.OpenFile(src.Name(), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	sum := sumOf(t, dst, src, func(at int64) {
		if _, err := writer.WriteAt([]byte("changed"), at-7); err != nil {
			t.Fatal(err)
		}
	}, shares)
	if sum != messages.Digest(listed) {
		t.Error("the copy changed with the staged file")
	}
}

// sumOf copies a file and returns the digest that its copy has, as copyLarge
// works it out. After is called after each step, which has not been read by then.
func sumOf(t *testing.T, dst, src *os.File, after func(at int64), shares bool) string {
	t.Helper()
	sum := sha256.New()
	copied, told := make(chan int64), make(chan int64, 3) // whoever has failed reads no more
	var group errgroup.Group
	group.Go(func() error {
		defer close(copied)
		shared, err := copySteps(t.Context(), dst, src, 0, 2*step+5, copied)
		if err == nil && shares && !shared {
			err = errors.New("the copy shares no blocks")
		}
		return err
	})
	group.Go(func() error { return follow(t.Context(), sum, dst, told) })
	for at := range copied {
		after(at)
		told <- at
	}
	close(told)
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return messages.FormatDigest(sum.Sum(nil))
}

// TestLargeUnreadable: where the copy cannot be read nothing is verified, though
// the staged file is as it is listed.
func TestLargeUnreadable(t *testing.T) {
	listed := largeData()
	dir, _ := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	deaf, err := os.OpenFile(dst.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	err = copyContents(t.Context(), deaf, src, messages.File{Path: "f", Size: int64(len(listed)), Digest: messages.Digest(listed)})
	if !errors.Is(err, unix.EBADF) {
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
