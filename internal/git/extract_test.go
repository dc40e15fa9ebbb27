package git_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/git"
)

// listing is what a tree has: path to mode and contents.
func listing(t testing.TB, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		contents := ""
		switch {
		case info.Mode()&fs.ModeSymlink != 0:
			contents, err = os.Readlink(path)
		case info.Mode().IsRegular():
			var data []byte
			data, err = os.ReadFile(path)
			contents = string(data)
		}
		rel, _ := filepath.Rel(dir, path)
		got[rel] = fmt.Sprintf("%v %s", info.Mode(), contents)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestExtract: the exact blobs, whatever attributes and settings say.
func TestExtract(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 255)
	names := []string{"new\nline", `quo"te'`, "back\\slash", "not-utf8-\xff", long, "-dash", "ünïcode", ".gitignore", ".github/workflow.yml", "a b/c d", "tab\there"}
	r := newRepo(t)
	want := map[string]string{}
	for _, name := range names {
		r.write(name, name)
		want[name] = "-rw-r--r-- " + name
	}
	want[".github"], want["a b"] = "drwxr-xr-x ", "drwxr-xr-x "
	attributes := "* text eol=crlf ident filter=evil\nsubst export-subst\nhidden export-ignore\nlarge filter=lfs diff=lfs merge=lfs\n"
	for name, contents := range map[string]string{
		"subst": "$Format:%H$ $Id$\n", "hidden": "hidden\n", "empty": "",
		"large": "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
	} {
		r.write(name, contents)
		want[name] = "-rw-r--r-- " + contents
	}
	r.write("run.sh", "#!/bin/sh\n")
	if err := os.Chmod(filepath.Join(r.dir, "run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	want["run.sh"] = "-rwxr-xr-x #!/bin/sh\n"
	for name, target := range map[string]string{"passwd": "/etc/passwd", "up": "../../../x", "gone": "nothing", "sub": "a b"} {
		if err := os.Symlink(target, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
		want[name] = "Lrwxrwxrwx " + target
	}
	r.git("config", "filter.evil.clean", "cat")
	r.commit("first")
	r.write(".gitattributes", attributes) // after the others, so that they are stored as they are
	want[".gitattributes"] = "-rw-r--r-- " + attributes
	r.git("add", ".gitattributes")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+nowhere+",lib/submodule")
	r.git("commit", "--quiet", "-m", "attributes")
	want["lib"], want["lib/submodule"] = "drwxr-xr-x ", "drwxr-xr-x "
	commit := r.git("rev-parse", "HEAD")

	dir := filepath.Join(t.TempDir(), "made", "here")
	m := fetched(t, r, commit)
	if err := m.Extract(t.Context(), r.dir, commit, dir); err != nil {
		t.Fatalf("Extract: %v", err)
	}
	if diff := cmp.Diff(want, listing(t, dir)); diff != "" {
		t.Errorf("tree (-want +got):\n%s", diff)
	}
	wantOurs(t, m.Extract(t.Context(), r.dir, commit, dir), "it is not empty")
}

func TestExtractEmptyTree(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	commit := r.commit("nothing")
	dir := t.TempDir()
	if err := fetched(t, r, commit).Extract(t.Context(), r.dir, commit, dir); err != nil {
		t.Fatalf("Extract: %v", err)
	}
	if got := listing(t, dir); len(got) > 0 {
		t.Errorf("tree = %v, want nothing", got)
	}
}

// TestHostileTrees: entries that no git would write are refused by name, and
// nothing is written.
func TestHostileTrees(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	evil := r.blob("evil")
	away := r.blob("/tmp")
	below := r.tree(leaf{"100644", "file", evil})
	climb := r.tree(leaf{"40000", "..", below})
	file := func(name string) []leaf { return []leaf{{"100644", name, evil}} }
	for _, tc := range []struct {
		name   string
		leaves []leaf
		want   string
	}{
		{"dotdot file", file(".."), "another folder"},
		{"dotdot folder", []leaf{{"40000", "..", below}}, "../file"},
		{"dotdot deep", []leaf{{"40000", "a", climb}}, "a/../file"},
		{"dot", []leaf{{"40000", ".", below}}, "another folder"},
		{"absolute", file("/etc/passwd"), "absolute path"},
		{"slash inside", file("a/../../b"), "another folder"},
		{"empty parts", file("a//b"), "empty name"},
		{"git folder", []leaf{{"40000", ".git", below}}, "git's own folder"},
		{"git file", file(".git"), "git's own folder"},
		{"git link", []leaf{{"120000", ".git", away}}, "git's own folder"},
		{"git submodule", []leaf{{"160000", ".git", nowhere}}, "git's own folder"},
		{"deep git folder", []leaf{{"40000", "a", r.tree(leaf{"40000", ".git", below})}}, "a/.git/file"},
		{"upper case", file(".GIT"), "git's own folder"},
		{"mixed case", file(".gIt"), "git's own folder"},
		{"short name", file("GIT~1"), "git's own folder"},
		{"trailing dot", file(".git. ."), "git's own folder"},
		{"stream", file(".git::$INDEX_ALLOCATION"), "git's own folder"},
		{"backslash", file(`a\.git\config`), "git's own folder"},
		{"invisible", file(".g\u200cit"), "git's own folder"},
		{"twice", []leaf{{"100644", "a", evil}, {"100644", "a", away}}, "there twice"},
		{"link and folder", []leaf{{"120000", "a", away}, {"40000", "a", below}}, "below a file or a link"},
		{"folder and link", []leaf{{"40000", "a", below}, {"120000", "a", away}}, "there twice"},
		{"file and folder", []leaf{{"100644", "a", evil}, {"40000", "a", below}}, "below a file or a link"},
		{"submodule and folder", []leaf{{"160000", "a", nowhere}, {"40000", "a", below}}, "below a file or a link"},
		{"link and a path through it", []leaf{{"120000", "a", away}, {"100644", "a/b", evil}}, "below a file or a link"},
		{"long name", file(strings.Repeat("n", 256)), "longer than 255 bytes"},
		{"empty link", []leaf{{"120000", "a", r.blob("")}}, "symbolic link of 0 bytes"},
		{"long link", []leaf{{"120000", "a", r.blob(strings.Repeat("x", 4096))}}, "symbolic link of 4096 bytes"},
		{"link with zero byte", []leaf{{"120000", "a", r.blob("x\x00y")}}, "zero byte"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tree := r.tree(tc.leaves...)
			commit := r.commitTree(tree)
			dir := t.TempDir()
			m := fetched(t, r, commit)
			wantKind(t, m.Extract(t.Context(), r.dir, commit, dir), git.NotAllowed, tc.want)
			if got := listing(t, dir); len(got) > 0 {
				t.Errorf("tree = %v, want nothing", got)
			}
		})
	}
}

// TestDeepTree: depth costs neither stack nor time.
func TestDeepTree(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	tree := r.tree(leaf{"100644", "file", r.blob("x")})
	for range 201 {
		tree = r.tree(leaf{"40000", "d", tree})
	}
	commit := r.commitTree(tree)
	wantKind(t, fetched(t, r, commit).Extract(t.Context(), r.dir, commit, t.TempDir()), git.NotAllowed, "folders deep")
}

// TestLimits: a tree that is too large is refused before it is written, a tree
// that unfolds to 10^10 files before it is listed.
func TestLimits(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	zeros := r.blob(strings.Repeat("\x00", 3<<20))
	huge := r.commitTree(r.tree(leaf{"100644", "a", zeros}, leaf{"100644", "b", zeros}))
	bomb := r.blob("bomb")
	for level := range 10 {
		mode := "40000"
		if level == 0 {
			mode = "100644"
		}
		var leaves []leaf
		for i := range 10 {
			leaves = append(leaves, leaf{mode, fmt.Sprint("f", i), bomb})
		}
		bomb = r.tree(leaves...)
	}
	unfolds := r.commitTree(bomb)

	m := fetched(t, r, huge)
	m.Limits = git.Limits{Bytes: 6<<20 - 1}
	dir := t.TempDir()
	wantKind(t, m.Extract(t.Context(), r.dir, huge, dir), git.TooLarge, "more than 6291455 bytes together")
	if got := listing(t, dir); len(got) > 0 {
		t.Errorf("tree = %v, want nothing", got)
	}
	m.Limits = git.Limits{Bytes: 6 << 20, Files: 2}
	if err := m.Extract(t.Context(), r.dir, huge, dir); err != nil {
		t.Errorf("Extract at the limits: %v", err)
	}
	m.Limits = git.Limits{Files: 1}
	wantKind(t, m.Extract(t.Context(), r.dir, huge, t.TempDir()), git.TooLarge, "more than 1 files and folders")

	m = fetched(t, r, unfolds)
	m.Limits = git.Limits{Files: 1000}
	wantKind(t, m.Extract(t.Context(), r.dir, unfolds, t.TempDir()), git.TooLarge, "more than 1000 files and folders")
}

func TestFile(t *testing.T) {
	t.Parallel()
	r := newRepo(t)
	r.write("project.yaml", "version: '5'\n")
	r.write("empty", "")
	r.write("a/b c\n.txt", "deep\r\n")
	r.write("-v", "dash")
	r.write("*", "star")
	r.write(".gitattributes", "* text eol=crlf\n")
	for name, target := range map[string]string{"link": "project.yaml", "folder-link": "a"} {
		if err := os.Symlink(target, filepath.Join(r.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	r.git("add", "--all")
	r.git("update-index", "--add", "--cacheinfo", "160000,"+nowhere+",submodule")
	r.git("commit", "--quiet", "-m", "first")
	commit := r.git("rev-parse", "HEAD")
	m := fetched(t, r, commit)

	for path, want := range map[string]string{"project.yaml": "version: '5'\n", "empty": "", "a/b c\n.txt": "deep\n", "-v": "dash", "*": "star"} {
		got, err := m.File(t.Context(), r.dir, commit, path, 13)
		if err != nil || string(got) != want {
			t.Errorf("File(%q) = %q, %v, want %q", path, got, err, want)
		}
	}
	for _, tc := range []struct {
		path string
		kind git.Kind
		want string
	}{
		{"project.yml", git.NoFile, "File 'project.yml' not found in repository"},
		{"", git.NoFile, "not found"},
		{"/project.yaml", git.NoFile, "not found"},
		{"./project.yaml", git.NoFile, "not found"},
		{"../study/project.yaml", git.NoFile, "not found"},
		{"a/../project.yaml", git.NoFile, "not found"},
		{"project.yaml/", git.NoFile, "not found"},
		{"project.*", git.NoFile, "not found"},
		{":(top)project.yaml", git.NoFile, "not found"},
		{"PROJECT.YAML", git.NoFile, "not found"},
		{"project.yaml\x00", git.NoFile, "not found"},
		{"folder-link/b c\n.txt", git.NoFile, "not found"},
		{"a", git.NotAllowed, "File 'a' is a folder in the repository; it must be a regular file"},
		{"link", git.NotAllowed, "is a symbolic link"},
		{"submodule", git.NotAllowed, "is a submodule"},
	} {
		_, err := m.File(t.Context(), r.dir, commit, tc.path, 13)
		wantKind(t, err, tc.kind, tc.want)
	}
	_, err := m.File(t.Context(), r.dir, commit, "project.yaml", 12)
	wantKind(t, err, git.TooLarge, "File 'project.yaml' has 13 bytes; the limit is 12")
}
