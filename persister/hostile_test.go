package persister_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister/storetest"
)

// What a listing calls a regular file may be anything by now. Nothing of it is
// opened for its effects, followed, or kept.
func TestHostileStaging(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		make   func(full string) error // makes x.csv something else
		reason string
	}{
		{"symlink to a file of the host", func(f string) error { return os.Symlink("/etc/passwd", f) }, "is a link"},
		{"symlink beside it", func(f string) error { return os.Symlink("good.csv", f) }, "is a link"},
		{"symlinked parent", func(f string) error {
			if err := os.Remove(filepath.Dir(f)); err != nil {
				return err
			}
			return os.Symlink("/etc", filepath.Dir(f))
		}, "is a link"},
		{"FIFO", func(f string) error { return unix.Mkfifo(f, 0o644) }, "not a regular file"},
		{"socket", func(f string) error { return unix.Mknod(f, unix.S_IFSOCK|0o644, 0) }, "not a regular file"},
		{"folder", func(f string) error { return os.Mkdir(f, 0o755) }, "not a regular file"},
		{"hard link", func(f string) error {
			other := filepath.Join(filepath.Dir(f), "..", "..", "secret")
			return errors.Join(os.WriteFile(other, []byte("123"), 0o600), os.Link(other, f))
		}, "other hard links"},
		{"missing", func(string) error { return nil }, "it is missing"},
		{"grown", func(f string) error { return os.WriteFile(f, []byte("1234"), 0o600) }, "4 bytes; 3 are listed"},
		{"changed", func(f string) error { return os.WriteFile(f, []byte("124"), 0o600) }, "contents are not"},
	} {
		for _, rename := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, rename %v", tc.name, rename), func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				b.cfg.Rename = rename
				j := storetest.NewJob("ws", "a", "r1", high, "out/x.csv", medium, "good.csv")
				b.AddJob(j)
				m := b.stage(t, j, 1, map[string]string{"out/x.csv": "123", "good.csv": "1"})
				full := filepath.Join(storetest.Dir(b.cfg.Staging, j, 1), "files", "out", "x.csv")
				if err := errors.Join(os.Remove(full), tc.make(full)); err != nil {
					t.Fatal(err)
				}
				for tries := 1; tries < 3; tries++ { // it may only be late
					if err := b.deliver(t, m, tries); err == nil || strings.Contains(err.Error(), "x.csv") {
						t.Fatalf("delivery %d: got %v, want an error without the file's name", tries, err)
					}
				}
				if err := b.deliver(t, m, 3); err != nil {
					t.Fatal(err)
				}
				if e := b.wantEvent(t, j, messages.Unusable, 0); !strings.Contains(e.Reason, tc.reason) || !strings.Contains(e.Reason, "out/x.csv") {
					t.Errorf("reason: got %q, want the name and %q", e.Reason, tc.reason)
				}
				if _, err := os.Stat(filepath.Join(b.cfg.High, "ws")); !os.IsNotExist(err) {
					t.Errorf("the workspace was touched: %v", err)
				}
				b.wantClean(t)
			})
		}
	}
}

func TestDeviceInStaging(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "zero.csv")
	b.AddJob(j)
	m := b.stage(t, j, 1, map[string]string{"zero.csv": ""})
	full := filepath.Join(storetest.Dir(b.cfg.Staging, j, 1), "files", "zero.csv")
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	reason := "not a regular file"
	if err := unix.Mknod(full, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 5))); errors.Is(err, unix.EPERM) {
		reason = "missing" // only root can make devices: then it is not there
	} else if err != nil {
		t.Fatal(err)
	}
	if err := b.deliver(t, m, 3); err != nil {
		t.Fatal(err)
	}
	if e := b.wantEvent(t, j, messages.Unusable, 0); !strings.Contains(e.Reason, reason) {
		t.Errorf("reason: got %q, want %q", e.Reason, reason)
	}
}

func TestListedOddities(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	j := storetest.NewJob("ws", "a", "r1", high, "*.csv", high, "metadata/manifest.json", high, ".sluice/x.json")
	b.AddJob(j)
	b.stage(t, j, 1, map[string]string{"a.csv": "1"})
	list := []messages.File{storetest.Entry("a.csv", "1"), storetest.Entry("metadata/manifest.json", "{}"), storetest.Entry(".sluice/x.json", "{}")}
	for kind, name := range map[messages.Kind]string{messages.KindLink: "link.csv", messages.KindFIFO: "fifo", messages.KindHardLink: "hard.csv", messages.KindDevice: "dev.csv"} {
		list = append(list, messages.File{Path: messages.Path(name), Kind: kind})
	}
	m, err := storetest.Message(b.cfg.Staging, j, 1, list, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	r := b.committed(t, j).Result
	want := []messages.FileProblem{
		{Path: ".sluice/x.json", Reason: "the .sluice folder is kept by Sluice"},
		{Path: "dev.csv", Reason: "device: only regular files with one link are kept"},
		{Path: "fifo", Reason: "FIFO: only regular files with one link are kept"},
		{Path: "hard.csv", Reason: "hard link: only regular files with one link are kept"},
		{Path: "link.csv", Reason: "symbolic link: only regular files with one link are kept"},
		{Path: "metadata/manifest.json", Reason: "the metadata folder is kept by Sluice"},
	}
	if diff := cmp.Diff(want, r.Refused); diff != "" || r.Refuseds != 6 {
		t.Errorf("refused, %d in all (-want +got):\n%s", r.Refuseds, diff)
	}
	b.wantTrees(t, "ws", map[string]string{"a.csv": "1"}, map[string]string{})
}

func TestOddNames(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	long := strings.Repeat("n", 251) + ".csv"
	files := map[string]string{
		"new\nline.csv": "1", `quo"te's.csv`: "2", "bad\xff\xfe.csv": "3", long: "4", "base64:AAAA.csv": "5", "snow☃.csv": "6", "-rf.csv": "7", "\u202egnp.csv": "8",
	}
	j := storetest.NewJob("ws", "a", "r1", medium, "*.csv")
	b.checks.MaxSize = 1
	b.persist(t, j, files)
	b.wantTrees(t, "ws", files, files)
	outputs := b.manifest(t, "ws")["outputs"].(map[string]any)
	if outputs["base64:YmFk//4uY3N2"] == nil || outputs["base64:YmFzZTY0OkFBQUEuY3N2"] == nil || outputs["new\nline.csv"] == nil || len(outputs) != len(files) {
		t.Errorf("manifest's keys: got %v", cmp.Diff(nil, outputs))
	}

	// All withheld now: a name of 255 bytes has no room for the message's suffix.
	for name := range files {
		files[name] = "22"
	}
	b.persist(t, storetest.NewJob("ws", "a", "r2", medium, "*.csv"), files)
	got := names(b.tree(t, b.cfg.Medium, "ws"))
	want := map[string]bool{}
	for name := range files {
		if name != long {
			want[name+".txt"] = true
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (-want +got):\n%s", diff)
	}
	b.wantClean(t)
}

func TestStoredListing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	const count = 100_000
	files := make([]messages.File, count)
	j := storetest.NewJob("ws", "a", "r1", high, "d/*/match.csv", high, "d/7/f1.txt", high, "nope/*.csv")
	b.AddJob(j)
	b.stage(t, j, 1, map[string]string{"d/1/match.csv": "1", "d/2/match.csv": "2"})
	for i := range files {
		files[i] = storetest.Entry(fmt.Sprintf("d/%d/f%d.csv", i%100, i), "x")
	}
	files[1], files[2] = storetest.Entry("d/1/match.csv", "1"), storetest.Entry("d/2/match.csv", "2")
	m, err := storetest.Message(b.cfg.Staging, j, 1, files, "")
	if err != nil {
		t.Fatal(err)
	}
	if !m.Listing.Stored {
		t.Fatal("the listing is inline")
	}
	if err := b.deliver(t, m, 1); err != nil {
		t.Fatal(err)
	}
	r := b.committed(t, j).Result
	if r.Files != 2 || r.Leftovers != count-2 || len(r.Leftover) != messages.MaxResultFiles || len(r.Unmatched) != 2 {
		t.Errorf("result: got %d files, %d of %d left over, %v unmatched", r.Files, len(r.Leftover), r.Leftovers, r.Unmatched)
	}

	stored := filepath.Join(storetest.Dir(b.cfg.Staging, j, 1), "listing.jsonl")
	j2 := storetest.NewJob("ws", "b", "r1", high, "d/*/match.csv")
	b.AddJob(j2)
	for name, damage := range map[string]func() error{
		"changed": func() error { return os.WriteFile(stored, []byte("{}\n"), 0o600) },
		"a link":  func() error { return errors.Join(os.Remove(stored), os.Symlink("/etc/passwd", stored)) },
		"missing": func() error { return os.Remove(stored) },
	} {
		m.Job = j2.ID
		stored = filepath.Join(storetest.Dir(b.cfg.Staging, j2, 1), "listing.jsonl")
		b.stage(t, j2, 1, nil)
		if err := os.WriteFile(stored, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		if err := b.deliver(t, m, 3); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if e := b.wantEvent(t, j2, messages.Unusable, 0); !strings.Contains(e.Reason, "listing") {
			t.Errorf("%s: reason %q does not name the listing", name, e.Reason)
		}
	}
}

func TestManyFiles(t *testing.T) {
	t.Parallel()
	root, err := os.MkdirTemp("/dev/shm", "sluice-test-") // where that is memory, this takes a tenth of the time
	if err != nil {
		root = t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(root); err != nil {
			t.Error(err)
		}
	})
	b := newBenchIn(t, root)
	files := map[string]string{}
	for i := range 100_000 {
		files[fmt.Sprintf("out/%03d/f%06d.csv", i%200, i)] = "x"
	}
	r := b.persist(t, storetest.NewJob("ws", "a", "r1", high, "out/*/*.csv"), files)
	if r.Files != len(files) {
		t.Errorf("files: got %d, want %d", r.Files, len(files))
	}
	got, err := storetest.Tree(filepath.Join(b.cfg.High, "ws", "out"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(files) {
		t.Errorf("visible: got %d, want %d", len(got), len(files))
	}
	b.wantClean(t)
}
