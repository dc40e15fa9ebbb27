package disk_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

// lateFiles are enough small files for one barrier over all, and a large one
// that takes much longer to hash than all the rest takes.
func lateFiles() map[string]string {
	files := map[string]string{"large.bin": strings.Repeat("0123456789abcdef", 8<<20)}
	for i := range 40 {
		files[fmt.Sprintf("s/%d.txt", i)] = fmt.Sprint(i)
	}
	return files
}

// rewrite makes a staged file another than the listing says, of the same size.
func rewrite(t *testing.T, cfg disk.Config, j *messages.Job, name string) {
	t.Helper()
	full := filepath.Join(storetest.Dir(cfg.Staging, j, 1), "files", name)
	st, err := os.Stat(full)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(full, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt([]byte("X"), st.Size()-1)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestLate: nothing is committed before the last file is verified, and whatever
// is wrong is said of all files at once.
func TestLate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		medium  string   // a pattern of files for both tiers
		changed []string // after they were listed
	}{
		{name: "as listed", medium: "s/*"},
		{name: "a large file changed", medium: "s/*", changed: []string{"large.bin"}},
		{name: "a large and a small one changed", medium: "s/*", changed: []string{"large.bin", "s/7.txt"}},
		{name: "large ones for both tiers", medium: "*.csv"},
		{name: "one of them changed", medium: "*.csv", changed: []string{"m.csv"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			cfg := disk.Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), filepath.Join(root, "medium"))
			j := storetest.NewJob("ws", "a", "r1", high, "large.bin", high, "s/*", medium, tc.medium)
			files := lateFiles()
			if tc.medium == "*.csv" {
				files["m.csv"] = "x,y\n" + strings.Repeat(strings.Repeat("1", 600)+",2\n", 4000)
			}
			m, err := storetest.Stage(cfg.Staging, j, 1, files)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range tc.changed {
				rewrite(t, cfg, j, name)
			}
			if err := deliver(root, cfg, j, m, 20); err != nil {
				t.Fatal(err)
			}
			events, err := storetest.NewFleet(root).Events()
			if err != nil {
				t.Fatal(err)
			}
			got := outputs(visible(t, root))
			wantClean(t, root)
			if len(tc.changed) == 0 {
				for name, content := range files {
					if got["high/ws/"+name] != content {
						t.Errorf("%s has %d bytes in the tier, not those that are listed; events: %s", name, len(got["high/ws/"+name]), events)
					}
				}
				if content, there := files["m.csv"]; there && got["medium/ws/m.csv"] != content {
					t.Errorf("m.csv has %d bytes in the other tier", len(got["medium/ws/m.csv"]))
				}
				return
			}
			if len(got) > 0 || !strings.Contains(events, string(messages.Unusable)) {
				t.Errorf("%d files can be seen; events: %s", len(got), events)
			}
			for _, name := range tc.changed {
				if !strings.Contains(events, name) {
					t.Errorf("the reason does not name %s: %s", name, events)
				}
			}
		})
	}
}

// TestLateClosed: an attempt that is given up while a large file is still copied
// leaves nothing, and nothing goes on.
func TestLateClosed(t *testing.T) {
	t.Parallel()
	copied, closing, closed := make(chan struct{}), make(chan struct{}), atomic.Bool{}
	root, draft := beginLate(t, t.Context(), strings.Repeat("q", 2<<20), func(step string) {
		if step != "persister.between-copies" {
			return
		}
		close(copied)
		<-closing
		for range 100_000 { // Close has all the time that it could need
			runtime.Gosched()
		}
		if closed.Load() {
			t.Error("a copy goes on after the attempt was given up")
		}
	})
	<-copied
	close(closing)
	err := draft.Close()
	closed.Store(true)
	if err != nil {
		t.Error(err)
	}
	wantClean(t, root)
}

// TestLateStopped: no copy that was broken off is taken for one.
func TestLateStopped(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	root, draft := beginLate(t, ctx, lateFiles()["large.bin"], nil)
	stop()
	if f, err := draft.Copied(0); err == nil {
		t.Error("a copy that was broken off was opened", f.Close())
	}
	if err := draft.Close(); err != nil {
		t.Error(err)
	}
	wantClean(t, root)
}

// beginLate begins to copy an attempt's one file, a large one.
func beginLate(t *testing.T, ctx context.Context, content string, fault func(string)) (root string, draft persister.Draft) {
	t.Helper()
	root = t.TempDir()
	cfg := disk.Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), filepath.Join(root, "medium"))
	cfg.Fault = fault
	j := storetest.NewJob("ws", "a", "r1", high, "*")
	if _, err := storetest.Stage(cfg.Staging, j, 1, map[string]string{"large.bin": content}); err != nil {
		t.Fatal(err)
	}
	store, err := disk.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	draft, err = store.Begin(t.Context(), persister.Attempt{Workspace: "ws", Action: "a", Job: j.ID, Number: 1, Created: j.Created})
	if err == nil {
		err = draft.Copy(ctx, []messages.File{storetest.Entry("large.bin", content)})
	}
	if err != nil {
		t.Fatal(err)
	}
	return root, draft
}
