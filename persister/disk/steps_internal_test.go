package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/storetest"
)

// TestLargeParts: a file of which any part is another is refused, whether its
// milestones are those of what is listed, or of what is there, or one of them is
// false; and a false one refuses nobody's file. Likewise where it lies, without a copy.
func TestLargeParts(t *testing.T) {
	listed := largeData()[:step+(12<<20)]
	honest := marksOf(t, listed)
	const every = messages.MilestoneEvery
	dir, _ := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	writer, err := os.OpenFile(src.Name(), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	try := func(name string, marks *messages.Milestones, refused bool) {
		t.Helper()
		want := wantedOf(listed).with(marks)
		if err := errors.Join(dst.Truncate(0), seek(0, dst, src)); err != nil {
			t.Fatal(err)
		}
		for how, err := range map[string]error{"copied": copyContents(t.Context(), dst, src, want), "verified": verify(t.Context(), src, want)} {
			if refused != errors.Is(err, errContents) || !refused && err != nil {
				t.Errorf("%s: %s: %v, want that it is refused: %v", name, how, err, refused)
			}
		}
	}
	for part := 0; part*every < len(listed); part++ {
		at := part * every
		for i, marks := range []*messages.Milestones{honest, falsified(honest, part)} {
			if marks == nil {
				continue
			}
			try(fmt.Sprintf("part %d, milestones %d", part, i), marks, false)
			if _, err := writer.WriteAt([]byte{listed[at] ^ 1}, int64(at)); err != nil {
				t.Fatal(err)
			}
			try(fmt.Sprintf("part %d changed, milestones %d", part, i), marks, true)
			if i == 0 {
				other := bytes.Clone(listed)
				other[at] ^= 1
				try(fmt.Sprintf("part %d changed, milestones of that", part), marksOf(t, other), true)
			}
			if _, err := writer.WriteAt(listed[at:at+1], int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Truncate(src.Name(), int64(len(listed)+1)); err != nil {
		t.Fatal(err)
	}
	if err := verify(t.Context(), src, wantedOf(listed).with(honest)); !errors.Is(err, errContents) {
		t.Errorf("a file that is longer, where it lies: %v, want that %v", err, errContents)
	}
}

// TestLargeHint: milestones are looked at, be they honest or false.
func TestLargeHint(t *testing.T) {
	listed := largeData()
	honest := marksOf(t, listed)
	dir, _ := largeDir(t)
	_, src := stageLarge(t, dir, listed)
	for name, tc := range map[string]struct {
		marks *messages.Milestones
		want  error
	}{"none": {nil, nil}, "honest": {honest, nil}, "false": {falsified(honest, 1), errContents}} {
		err := inSteps(t.Context(), src, wantedOf(listed).with(tc.marks), func(int64, int64) error { return nil })
		if !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
}

// TestLargeHintLost: an error of the disk under a clone is told once. Whatever the
// milestones say, what was cloned meanwhile does not count: the copy is read.
func TestLargeHintLost(t *testing.T) {
	listed := largeData()
	dir, _ := largeDir(t)
	dst, src := stageLarge(t, dir, listed)
	want := wantedOf(listed).with(falsified(marksOf(t, listed), 1))
	if known, err := shareLarge(t.Context(), dst, src, want); known || err != nil {
		t.Errorf("shareLarge = %v, %v, want that it is not known", known, err)
	}
	if err := copyContents(t.Context(), deaf(t, dst), src, want); !errors.Is(err, unix.EBADF) {
		t.Errorf("got %v, want that the copy cannot be read", err)
	}
}

// TestLargeNobody: a file that nobody has hashed is not verified, be it empty.
func TestLargeNobody(t *testing.T) {
	listed := largeData()
	dir, _ := largeDir(t)
	_, src := stageLarge(t, dir, listed)
	nothing := func(int64, int64) error { return nil }
	want := wantedOf(listed).with(marksOf(t, listed))
	want.hashers, want.Digest = 0, messages.Digest(nil)
	if err := inSteps(t.Context(), src, want, nothing); !errors.Is(err, errContents) {
		t.Errorf("with nobody to hash it: %v, want that %v", err, errContents)
	}
	for _, marks := range []*messages.Milestones{nil, {}} {
		empty := wanted{File: messages.File{Path: "f", Digest: messages.Digest(listed)}, marks: marks, hashers: 2}
		if err := inSteps(t.Context(), src, empty, nothing); !errors.Is(err, errContents) {
			t.Errorf("empty: %v, want that %v", err, errContents)
		}
	}
}

// TestLargeStops: a copy that is broken off stops at its next step, whatever of it
// is hashed by then.
func TestLargeStops(t *testing.T) {
	listed := largeData()
	dir, _ := largeDir(t)
	_, src := stageLarge(t, dir, listed)
	marks := marksOf(t, listed)
	for i := range 20 { // as a select chooses
		if i == 10 {
			marks = nil
		}
		ctx, stop := context.WithCancel(t.Context())
		steps := 0
		err := inSteps(ctx, src, wantedOf(listed).with(marks), func(int64, int64) error { steps++; stop(); return nil })
		if !errors.Is(err, context.Canceled) || steps != 1 {
			t.Errorf("%d steps, want one; %v", steps, err)
		}
	}
}

// falsified returns milestones with one of them, if there is it, false.
func falsified(m *messages.Milestones, which int) *messages.Milestones {
	if which < 0 || which >= len(m.States)/32 {
		return nil
	}
	m = &messages.Milestones{Path: m.Path, States: bytes.Clone(m.States)}
	m.States[which*32+which%32] ^= 1
	return m
}

// marksOf are the milestones of a file.
func marksOf(t *testing.T, data []byte) *messages.Milestones {
	t.Helper()
	sum := messages.NewSum(int64(len(data)))
	if _, err := sum.Write(data); err != nil {
		t.Fatal(err)
	}
	return sum.Milestones("f")
}

// with adds milestones, if they fit.
func (w wanted) with(m *messages.Milestones) wanted {
	w.hashers = 2
	if m != nil && m.Fit(w.Size) {
		w.marks = m
	}
	return w
}

// TestMilestones: those that a worker left are used, if they are the file's. Of
// what else lies there nothing depends, whatever it is.
func TestMilestones(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("0123456789abcdef", 1<<20)
	for _, tc := range []struct {
		name  string
		leave func(path string) error // in their place
		used  bool
	}{
		{"left", func(string) error { return nil }, true},
		{"missing", os.Remove, false},
		{"of a file of another size", func(path string) error {
			return storetest.LeaveMilestones(filepath.Dir(path), map[string]string{"large.bin": large + large})
		}, false},
		{"of a file of another name", func(path string) error {
			return storetest.LeaveMilestones(filepath.Dir(path), map[string]string{"larger.bin": large})
		}, false},
		{"of other contents", func(path string) error {
			return storetest.LeaveMilestones(filepath.Dir(path), map[string]string{"large.bin": strings.ToUpper(large)})
		}, true},
		{"garbage", func(path string) error {
			return os.WriteFile(path, []byte("{}\n[\n{\"path\":\"large.bin\"}\n\x00"), 0o600)
		}, false},
		{"and no end to them", func(path string) error { return os.Truncate(path, 1<<40) }, true},
		{"a link", func(path string) error { return errors.Join(os.Rename(path, path+"0"), os.Symlink(path+"0", path)) }, false},
		{"a FIFO", func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) }, false},
		{"a folder", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			cfg := Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), "")
			j := storetest.NewJob("ws", "a", "r1")
			m, err := storetest.Stage(cfg.Staging, j, 1, map[string]string{"large.bin": large, "small.txt": "s"})
			if err == nil {
				err = tc.leave(filepath.Join(storetest.Dir(cfg.Staging, j, 1), messages.MilestonesFile))
			}
			if err != nil {
				t.Fatal(err)
			}
			d := begin(t, cfg, j)
			if err := d.Copy(t.Context(), m.Listing.Files); err != nil {
				t.Fatal(err)
			}
			if err := d.verified(); err != nil {
				t.Error(err)
			}
			for i, f := range m.Listing.Files {
				if got := d.want(i).hashers; got != min(runtime.NumCPU(), 4) {
					t.Errorf("%d hashers", got)
				}
				if got, want := d.want(i).marks != nil, tc.used && f.Path == "large.bin"; got != want {
					t.Errorf("%s has milestones: %v, want %v", f.Path, got, want)
				}
			}
		})
	}
}

// TestMilestonesEmpty: no milestones speak for an empty file.
func TestMilestonesEmpty(t *testing.T) {
	t.Parallel()
	for _, rename := range []bool{false, true} {
		root := t.TempDir()
		cfg := Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), "")
		cfg.Rename = rename
		j := storetest.NewJob("ws", "a", "r1")
		m, err := storetest.Stage(cfg.Staging, j, 1, map[string]string{"empty.csv": "", "large.bin": strings.Repeat("x", 2<<20)})
		if err != nil {
			t.Fatal(err)
		}
		left := filepath.Join(storetest.Dir(cfg.Staging, j, 1), messages.MilestonesFile)
		if err := os.WriteFile(left, []byte(`{"path":"empty.csv"}`), 0o600); err != nil {
			t.Fatal(err)
		}
		m.Listing.Files[0].Digest = messages.Digest([]byte("something"))
		d := begin(t, cfg, j)
		var bad *persister.Differs
		if err := d.Copy(t.Context(), m.Listing.Files); !errors.As(err, &bad) || len(bad.Problems) != 1 || bad.Problems[0].Path != "empty.csv" {
			t.Errorf("rename %v: Copy = %v, want that empty.csv differs", rename, err)
		}
	}
}

// begin opens a store, and takes a job's first attempt.
func begin(t *testing.T, cfg Config, j *messages.Job) *draft {
	t.Helper()
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Begin(t.Context(), persister.Attempt{Workspace: j.Workspace, Action: j.Action, Job: j.ID, Number: 1, Created: j.Created})
	t.Cleanup(func() {
		if err == nil {
			err = d.Close()
		}
		if err := errors.Join(err, s.Close()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return d.(*draft)
}
