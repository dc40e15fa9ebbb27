package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"
)

// TestFlights: work goes on while anybody waits for it, and stops with the last.
func TestFlights(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var (
			f       flights
			runs    int
			proceed = make(chan struct{})
			stopped = errors.New("stopped")
		)
		work := func(ctx context.Context) error {
			runs++
			select {
			case <-proceed:
				return nil
			case <-ctx.Done():
				return stopped
			}
		}
		caller := func() (leave context.CancelCauseFunc, result chan error) {
			ctx, leave := context.WithCancelCause(t.Context())
			result = make(chan error, 1)
			go func() { result <- f.do(ctx, "key", work) }()
			synctest.Wait()
			return leave, result
		}
		gone := errors.New("gone")

		leaveFirst, first := caller()
		leaveSecond, second := caller()
		leaveFirst(gone)
		if err := <-first; err != gone {
			t.Errorf("the first caller got %v, want %v", err, gone)
		}
		leaveSecond(gone)
		if err := <-second; err != gone {
			t.Errorf("the last caller got %v, want %v", err, gone)
		}
		if len(f.started) != 0 {
			t.Errorf("%d flights are left, want none", len(f.started))
		}

		leaveFirst, first = caller()
		_, second = caller()
		leaveFirst(gone)
		<-first
		close(proceed)
		if err := <-second; err != nil {
			t.Errorf("the second caller got %v, want what the work returned", err)
		}
		if runs != 2 {
			t.Errorf("the work ran %d times, want 2", runs)
		}
	})
}

// TestLockFile: a waiter gives up with its context, and the lock is free for
// the next when its holder lets go.
func TestLockFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	held, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := lockFile(ctx, path); !errors.Is(err, gone) {
		t.Errorf("lockFile of a held lock = %v, want %v", err, gone)
	}
	next := make(chan error, 1)
	go func() {
		f, err := lockFile(t.Context(), path)
		if err == nil {
			err = f.Close()
		}
		next <- err
	}()
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-next; err != nil {
		t.Errorf("lockFile after its holder let go: %v", err)
	}
}

// TestGitInheritsLock: a mirror stays locked while a git lives whose caller
// was killed.
func TestGitInheritsLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(dir, "git")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nread line <"+fifo+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	m := &Mirrors{Dir: dir, Binary: script}
	if err := prepareDir(dir); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "lock")
	lock, err := lockFile(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.start(t.Context(), call{args: []string{"fetch"}, lock: lock})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.begin(); err != nil {
		t.Fatal(err)
	}
	if err := lock.Close(); err != nil { // as if we had died
		t.Fatal(err)
	}
	again, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := flock(again, syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("lock while git lives: %v, want %v", err, syscall.EWOULDBLOCK)
	}
	if err := os.WriteFile(fifo, []byte("end\n"), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.finish(nil); err != nil {
		t.Fatal(err)
	}
	if err := flock(again, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Errorf("lock after git's end: %v", err)
	}
}

// TestProxy: it stands in for github.com, and the token goes to it.
func TestProxy(t *testing.T) {
	t.Parallel()
	rules := Rules{Proxy: "github-proxy.opensafely.org", Token: "secret", TokenUser: "jobrunner-tpp"}
	url, protocol := rules.remote("https://github.com/opensafely/x/")
	if url != "https://github-proxy.opensafely.org/opensafely/x" || protocol != "https" {
		t.Errorf("remote = %s, %s, want the proxy by https", url, protocol)
	}
	key, value, secrets, err := rules.header(url)
	if key != "http.https://github-proxy.opensafely.org/.extraHeader" || value != "Authorization: Basic am9icnVubmVyLXRwcDpzZWNyZXQ=" ||
		len(secrets) != 2 || err != nil {
		t.Errorf("header = %q, %q, %d secrets, %v", key, value, len(secrets), err)
	}
	url, _ = Rules{}.remote("https://github.com/opensafely/github.com")
	if url != "https://github.com/opensafely/github.com" {
		t.Errorf("remote without a proxy = %s", url)
	}
}

// TestSlug: one directory for each URL, with a harmless name.
func TestSlug(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		name := slug(a)
		if len(name) > 100 || name[0] == '.' || name[0] == '-' || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") != "" {
			t.Fatalf("slug(%q) = %q", a, name)
		}
		if (a == b) != (name == slug(b)) {
			t.Fatalf("slug(%q) = %q, slug(%q) = %q", a, name, b, slug(b))
		}
	})
}

// FuzzTree: whatever git prints, what is accepted can be written beneath a
// folder, in the order files before links, with no write through a link.
func FuzzTree(f *testing.F) {
	id := strings.Repeat("a", 40)
	for _, path := range []string{"a", "a/b", "../x", ".git/config", "/etc/passwd", "a\nb", ".gi\u200ct"} {
		f.Add("100644 blob " + id + "       3\t" + path + "\x00120000 blob " + id + " 1\tlink\x00")
	}
	f.Add("160000 commit " + id + "       -\ta\x00100755 blob " + id + " 1\ta/b\x00")
	f.Add("100644 blob " + id + " 9223372036854775807\ta\x00100644 blob " + id + " 9223372036854775807\tb\x00")
	f.Fuzz(func(t *testing.T, out string) {
		limits := Limits{Files: 100, Bytes: 1000}
		entries, err := readTree(strings.NewReader(out), id, limits)
		if err != nil {
			return
		}
		var total int64
		files := map[string]bool{}
		for _, e := range entries {
			total += e.size
			if files[e.path] || !filepath.IsLocal(e.path) || filepath.Clean(e.path) != e.path {
				t.Fatalf("accepted %q", e.path)
			}
			files[e.path] = true
			for name := range strings.SplitSeq(e.path, "/") {
				if strings.EqualFold(name, ".git") {
					t.Fatalf("accepted %q", e.path)
				}
			}
		}
		for path := range files {
			for dir := filepath.Dir(path); dir != "."; dir = filepath.Dir(dir) {
				if files[dir] {
					t.Fatalf("accepted %q and %q", dir, path)
				}
			}
		}
		if total > limits.Bytes || len(entries) > limits.Files {
			t.Fatalf("accepted %d entries of %d bytes", len(entries), total)
		}
	})
}

// FuzzBlobs: every entry gets the bytes of its own size, or there is an error.
func FuzzBlobs(f *testing.F) {
	id := strings.Repeat("b", 40)
	f.Add(id+" blob 3\nabc\n"+id+" blob 0\n\n", int64(3))
	f.Add(id+" blob 3\nab", int64(3))
	f.Add(id+" missing\n", int64(3))
	f.Fuzz(func(t *testing.T, out string, size int64) {
		if size < 0 {
			return
		}
		entries := []entry{{"100644", id, size, "a"}, {"100644", id, 0, "b"}}
		var got []string
		err := readBlobs(strings.NewReader(out), entries, func(_ entry, r io.Reader) error {
			data, err := io.ReadAll(r)
			got = append(got, string(data))
			return err
		})
		if err != nil {
			return
		}
		want := fmt.Sprintf("%s blob %d\n%s\n%s blob 0\n\n", id, size, got[0], id)
		if len(got) != 2 || int64(len(got[0])) != size || !bytes.HasPrefix([]byte(out), []byte(want)) {
			t.Fatalf("read %q of %q", got, out)
		}
	})
}
