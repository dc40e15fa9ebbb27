package staging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/internal/needs"
	"sluice/messages"
	"sluice/worker/staging"
)

// Users and groups of these tests: any number is one.
const (
	persisterUser = 20002
	sharedGroup   = 20100
	anotherUser   = 20003
)

// asUser runs a command as a user with one group.
func asUser(uid, gid int, command ...string) (string, error) {
	return inFolder(nil, uid, gid, command...)
}

// inFolder gives the command a folder as descriptor 3: a container gets at its
// workspace by a mount, not by a path that it may walk down.
func inFolder(dir *os.File, uid, gid int, command ...string) (string, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = "/"
	if dir != nil {
		cmd.ExtraFiles = []*os.File{dir}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sharedSite is a site whose path others may walk down, with a group.
func sharedSite(t *testing.T, copied bool, code tree) *site {
	t.Helper()
	if os.Geteuid() != 0 {
		needs.Missing(t, "only root can be several users")
	}
	dir := t.TempDir()
	do(t, os.Chmod(filepath.Dir(dir), 0o755), os.Chmod(dir, 0o755))
	s := newSiteIn(t, dir, copied, code)
	cfg := s.config(copied)
	cfg.Group = sharedGroup
	cfg.Root = filepath.Join(s.dir, "shared")
	area, err := staging.Open(cfg, s.code)
	do(t, err)
	old := s.Area
	s.Area = area
	t.Cleanup(func() {
		do(t, area.Sweep(func(messages.JobID, int) bool { return false }))
		s.Area = old
	})
	return s
}

// TestSharedGroup: a persister of the group reads whatever the listing names,
// whatever modes the study's programs gave it; nobody else reads anything; and
// what is no file of the attempt's own is left as it is.
func TestSharedGroup(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		s := sharedSite(t, copied, tree{"code.R": "c", "given/old.csv": "old"})
		outside := filepath.Join(s.dir, "outside")
		do(t, os.WriteFile(outside, []byte("mine"), 0o600), os.WriteFile(filepath.Join(s.dir, "public"), []byte("all"), 0o644))
		w := s.prepare(t, newAction())
		at := func(name string) string { return filepath.Join(w.Mount, name) }
		// The study, as the user that its container runs as.
		script := fmt.Sprintf(`cd /proc/self/fd/3 && umask 077 && cat code.R >private && mkdir -p locked/deeper given/mine && echo 1 >locked/deeper/x && echo 2 >given/mine/y && echo 3 >given/old.csv && : >none &&
			chmod 0 none locked/deeper/x && chmod 0700 locked/deeper . && chmod 0500 locked && ln -s %q link && ln private second && chmod 0700 .`, outside)
		space, err := os.Open(w.Mount)
		do(t, err)
		defer space.Close()
		if out, err := inFolder(space, uid(), gid(), "sh", "-c", script); err != nil {
			t.Fatalf("the study could not read its code and write its outputs: %v\n%s", err, out)
		}
		do(t, unix.Mkfifo(at("fifo"), 0o600), os.Chown(at("fifo"), uid(), gid()))
		before := listMode(t, outside, at("private"), at("fifo"))
		if got := s.listed(t, w); got["locked/deeper/x"] != "1\n" || got["given/mine/y"] != "2\n" || got["none"] != "" || got["private"] != "hard link" || got["link"] != "symbolic link" {
			t.Fatalf("listed = %v", got)
		}
		if after := listMode(t, outside, at("private"), at("fifo")); after != before {
			t.Errorf("what is no file of the attempt's own was changed:\n%s\nbefore:\n%s", after, before)
		}
		do(t, s.WriteFile(w, "listing.jsonl", []byte("l")))
		files := filepath.Join(w.Dir, "files")
		for _, name := range []string{"files/locked/deeper/x", "files/given/mine/y", "files/given/old.csv", "files/none", "listing.jsonl"} {
			path := filepath.Join(w.Dir, name)
			if out, err := asUser(persisterUser, sharedGroup, "cat", path); err != nil {
				t.Errorf("a persister of the group cannot read %s: %v %s", name, err, out)
			}
			if _, err := asUser(persisterUser, sharedGroup, "sh", "-c", `echo >"$0"`, path); err == nil {
				t.Errorf("a persister of the group can write %s", name)
			}
			if out, err := asUser(anotherUser, anotherUser, "cat", path); err == nil || strings.TrimSpace(out) == "" || !strings.Contains(out, "denied") {
				t.Errorf("a third user reads %s: %v %s", name, err, out)
			}
		}
		for _, dir := range []string{files, w.Dir, filepath.Dir(w.Dir), filepath.Dir(filepath.Dir(w.Dir))} {
			if _, err := asUser(persisterUser, sharedGroup, "sh", "-c", `: >"$0/intruder"`, dir); err == nil {
				t.Errorf("a persister can write into %s: only a worker writes staging (I1)", dir)
			}
			if _, err := asUser(anotherUser, anotherUser, "ls", dir); err == nil {
				t.Errorf("a third user can list %s", dir)
			}
		}
		// That the test's third user is kept out by these folders alone.
		if out, err := asUser(anotherUser, anotherUser, "cat", filepath.Join(s.dir, "public")); err != nil || out != "all" {
			t.Fatalf("the third user of this test cannot even come near: %v %s", err, out)
		}
	})
}

func listMode(t *testing.T, paths ...string) string {
	t.Helper()
	var list []string
	for _, p := range paths {
		var st unix.Stat_t
		do(t, unix.Lstat(p, &st))
		list = append(list, fmt.Sprintf("%s %o %d:%d", filepath.Base(p), st.Mode, st.Uid, st.Gid))
	}
	return strings.Join(list, "\n")
}

// TestModes: who may enter staging without a group, and in a study's folder.
func TestModes(t *testing.T) {
	t.Parallel()
	bothWays(t, func(t *testing.T, copied bool) {
		for _, public := range []bool{false, true} {
			s := newSite(t, copied, tree{"a": "b"})
			cfg := s.config(copied)
			cfg.Public, cfg.Root = public, filepath.Join(s.dir, "new", "staging")
			area, err := staging.Open(cfg, s.code)
			do(t, err)
			w, err := area.Prepare(t.Context(), newAction())
			do(t, err)
			want := os.FileMode(0o750)
			if public {
				want = 0o755
			}
			for _, dir := range []string{cfg.Root, filepath.Dir(w.Dir), w.Dir} {
				info, err := os.Stat(dir)
				do(t, err)
				if info.Mode().Perm() != want {
					t.Errorf("public %v: mode of %s = %o, want %o", public, dir, info.Mode().Perm(), want)
				}
			}
			do(t, area.Release(w), area.Remove(job, 1))
		}
	})
}

// TestNotOurGroup: what cannot work is said at the start.
func TestNotOurGroup(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLUICE_TEST_CHILD") == "" && os.Geteuid() == 0 {
		asChild(t, "TestNotOurGroup")
		return
	}
	cfg := staging.Config{
		Worker: "w1", Root: filepath.Join(t.TempDir(), "staging"), Cache: filepath.Join(t.TempDir(), "cache"), Records: t.TempDir(),
		High: func(string) string { return "/" }, UID: os.Geteuid(), GID: os.Getegid(), Copy: true, Group: sharedGroup + 1,
	}
	if _, err := staging.Open(cfg, nil); err == nil || !strings.Contains(err.Error(), "member") {
		t.Errorf("Open with another's group: %v, want an error that says what to do", err)
	}
	cfg.Group, cfg.UID = 0, anotherUser+1
	if _, err := staging.Open(cfg, nil); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("Open with another's user: %v, want an error that says what to do", err)
	}
}

// TestOwnLockedFiles: a worker that is not root lists what an attempt, which
// ran as the same user, has locked away.
func TestOwnLockedFiles(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLUICE_TEST_CHILD") == "" && os.Geteuid() == 0 {
		asChild(t, "TestOwnLockedFiles")
		return
	}
	s := newSite(t, true, tree{"code": "c"})
	w := s.prepare(t, newAction())
	at := func(name string) string { return filepath.Join(w.Mount, name) }
	do(t,
		os.MkdirAll(at("dir/sub"), 0o755), os.WriteFile(at("dir/sub/x"), []byte("x"), 0o644), os.WriteFile(at("y"), []byte("y"), 0o644),
		os.Chmod(at("dir/sub/x"), 0), os.Chmod(at("dir/sub"), 0), os.Chmod(at("dir"), 0o100), os.Chmod(at("y"), 0o200),
	)
	if got := s.listed(t, w); got["dir/sub/x"] != "x" || got["y"] != "y" || len(got) != 2 {
		t.Errorf("listed = %v, want both files", got)
	}
}

// TestUsedOwnLockedFiles: an action that runs as the worker's user and locks
// folders away, or keeps on doing so, does not escape its limit.
func TestUsedOwnLockedFiles(t *testing.T) {
	t.Parallel()
	if os.Getenv("SLUICE_TEST_CHILD") == "" && os.Geteuid() == 0 {
		asChild(t, "TestUsedOwnLockedFiles")
		return
	}
	s := newSite(t, true, tree{"code": "c"})
	w := s.prepare(t, newAction())
	at := func(name string) string { return filepath.Join(w.Mount, name) }
	do(t, os.Mkdir(at("z"), 0o755), os.WriteFile(at("z/x"), make([]byte, 3<<20), 0o644), os.Chmod(at("z"), 0))
	if used, err := s.Used(t.Context(), w, 1<<20); err != nil || used <= 1<<20 {
		t.Errorf("Used = %d, %v with a locked folder, want more than the limit", used, err)
	}

	var toggling sync.WaitGroup
	done := make(chan struct{})
	for n := range 50 {
		do(t, os.Mkdir(at(fmt.Sprintf("d%d", n)), 0o755))
	}
	toggling.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
				_ = os.Chmod(at(fmt.Sprintf("d%d", n%50)), 0)
			}
		}
	})
	for range 20 {
		if used, err := s.Used(t.Context(), w, 2<<20); err != nil || used <= 2<<20 {
			t.Errorf("Used = %d, %v while folders are locked, want more than the limit", used, err)
			break
		}
	}
	close(done)
	toggling.Wait()
}

// asChild runs a test of this program again as another user.
func asChild(t *testing.T, test string) {
	t.Helper()
	self, err := os.Open("/proc/self/exe")
	do(t, err)
	defer self.Close()
	dir := t.TempDir()
	do(t, os.Chmod(filepath.Dir(dir), 0o755), os.Chown(dir, anotherUser, anotherUser))
	cmd := exec.Command("/proc/self/fd/3", "-test.run=^"+test+"$", "-test.v")
	cmd.ExtraFiles = []*os.File{self}
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "SLUICE_TEST_CHILD=1", "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: anotherUser, Gid: anotherUser}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Errorf("as another user: %v\n%s", err, out)
	}
}
