package git

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// An entry is one line of a tree: a file, a link, or a submodule.
type entry struct {
	mode string // as git writes it, "100644"
	id   string
	size int64 // of the contents; 0 for a submodule
	path string
}

const (
	link      = "120000"
	submodule = "160000"
	maxPath   = 4096 // of Linux
	maxName   = 255
	maxDepth  = 200 // folders above a file
)

func (e entry) regular() bool { return strings.HasPrefix(e.mode, "100") }

func (e entry) kind() string {
	switch e.mode {
	case link:
		return "symbolic link"
	case submodule:
		return "submodule"
	case "040000":
		return "folder"
	}
	return "file"
}

// parseEntry reads one record of `git ls-tree -z -l`:
// MODE SP TYPE SP ID SP+ SIZE TAB PATH.
func parseEntry(record string) (entry, error) {
	words, path, ok := strings.Cut(record, "\t")
	f := strings.Fields(words)
	if !ok || len(f) != 4 || !isCommit(f[2]) || path == "" {
		return entry{}, fmt.Errorf("read a tree: git printed %.100q", record)
	}
	e := entry{mode: f[0], id: f[2], path: path}
	want := map[string]string{"040000": "tree", submodule: "commit"}[e.mode]
	if want == "" {
		want = "blob"
		if !e.regular() && e.mode != link {
			return entry{}, fmt.Errorf("read a tree: %s has the unknown mode %s", printable(path), printable(e.mode))
		}
		size, err := strconv.ParseInt(f[3], 10, 64)
		if err != nil || size < 0 {
			return entry{}, fmt.Errorf("read a tree: git printed %.100q", record)
		}
		e.size = size
	}
	if f[1] != want {
		return entry{}, fmt.Errorf("read a tree: %s has mode %s and type %s", printable(path), e.mode, printable(f[1]))
	}
	return e, nil
}

// tree lists all files below a commit. It is refused as soon as it is too
// large: the listing of a hostile tree need never end.
func (m *Mirrors) tree(ctx context.Context, mir mirror, commit string) ([]entry, error) {
	p, err := m.start(ctx, call{mirror: mir.dir, args: []string{"ls-tree", "-r", "-z", "-l", "--full-tree", commit}})
	if err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.cancel()
		return nil, err
	}
	if err := p.begin(); err != nil {
		return nil, err
	}
	entries, err := readTree(stdout, commit, m.Limits)
	if err := p.finish(err); err != nil {
		return nil, err
	}
	return entries, nil
}

func readTree(r io.Reader, commit string, limits Limits) ([]entry, error) {
	var (
		entries []entry
		total   int64
		shape   = shape{}
	)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<10)
	lines.Split(splitNUL)
	for lines.Scan() {
		e, err := parseEntry(lines.Text())
		if err != nil {
			return nil, err
		}
		if fault := shape.add(e.path); fault != "" {
			return nil, errorf(NotAllowed, "Commit %s has an entry %s, which is not allowed: %s", commit, printable(e.path), fault)
		}
		if e.mode == link && (e.size == 0 || e.size >= maxPath) {
			return nil, errorf(NotAllowed, "Commit %s has an entry %s, which is not allowed: a symbolic link of %d bytes", commit, printable(e.path), e.size)
		}
		entries = append(entries, e)
		if len(shape) > limits.files() {
			return nil, errorf(TooLarge, "Commit %s has more than %d files and folders", commit, limits.files())
		}
		if e.size > limits.bytes()-total {
			return nil, errorf(TooLarge, "Commit %s has files of more than %d bytes together", commit, limits.bytes())
		}
		total += e.size
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return nil, errorf(NotAllowed, "Commit %s has an entry whose path is longer than %d bytes", commit, maxPath)
	}
	return entries, lines.Err()
}

// splitNUL is a bufio.SplitFunc for records that end with a zero byte.
func splitNUL(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// A shape is every path of a tree: false for a folder, true for what is none.
type shape map[string]bool

// add reports why a path cannot be beside those before it. Git's own checks
// are not relied upon: a tree can be written by hand.
func (s shape) add(path string) (fault string) {
	if fault := checkPath(path); fault != "" {
		return fault
	}
	if _, twice := s[path]; twice {
		return "it is there twice"
	}
	for i, c := range path {
		if c == '/' {
			if s[path[:i]] {
				return "it lies below a file or a link"
			}
			s[path[:i]] = false
		}
	}
	s[path] = true
	return ""
}

// checkPath reports why a path cannot be written below a directory.
func checkPath(path string) (fault string) {
	if len(path) > maxPath-1 {
		return fmt.Sprintf("its path is longer than %d bytes", maxPath-1)
	}
	if strings.IndexByte(path, 0) >= 0 {
		return "it has a zero byte"
	}
	if strings.Count(path, "/") > maxDepth {
		return fmt.Sprintf("it lies more than %d folders deep", maxDepth)
	}
	for name := range strings.SplitSeq(path, "/") {
		switch {
		case name == "":
			return "it is an absolute path or has an empty name"
		case name == "." || name == "..":
			return "it has a name that means another folder"
		case len(name) > maxName:
			return fmt.Sprintf("it has a name longer than %d bytes", maxName)
		case isDotGit(name):
			return "it passes for git's own folder"
		}
	}
	return ""
}

// isDotGit reports whether some file system takes the name for ".git": one
// that ignores case, invisible characters (macOS), or what Windows ignores.
func isDotGit(name string) bool {
	for part := range strings.SplitSeq(name, `\`) {
		part = strings.Map(func(c rune) rune {
			if unicode.Is(unicode.Cf, c) {
				return -1
			}
			return unicode.ToLower(c)
		}, part)
		part, _, _ = strings.Cut(part, ":")
		part = strings.TrimRight(part, " .")
		if part == ".git" || part == "git~1" {
			return true
		}
	}
	return false
}

// blobs hands over the contents of entries in order, byte for byte as they
// are in the repository: no filter, no line ends, no substitution.
func (m *Mirrors) blobs(ctx context.Context, mir mirror, entries []entry, handle func(entry, io.Reader) error) error {
	if len(entries) == 0 {
		return nil
	}
	var ids strings.Builder
	for _, e := range entries {
		ids.WriteString(e.id + "\n")
	}
	p, err := m.start(ctx, call{mirror: mir.dir, args: []string{"cat-file", "--batch", "--buffer"}, stdin: strings.NewReader(ids.String())})
	if err != nil {
		return err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		p.cancel()
		return err
	}
	if err := p.begin(); err != nil {
		return err
	}
	return p.finish(readBlobs(stdout, entries, handle))
}

// readBlobs reads what `git cat-file --batch` prints: for each object
// ID SP TYPE SP SIZE LF CONTENTS LF.
func readBlobs(r io.Reader, entries []entry, handle func(entry, io.Reader) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for _, e := range entries {
		head, err := in.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read %s: %w", printable(e.path), err)
		}
		if want := fmt.Sprintf("%s blob %d\n", e.id, e.size); string(head) != want {
			return fmt.Errorf("read %s: git printed %.100q, want %q", printable(e.path), head, want)
		}
		contents := &io.LimitedReader{R: in, N: e.size}
		if err := handle(e, contents); err != nil {
			return err
		}
		if contents.N > 0 {
			return fmt.Errorf("read %s: %d bytes are missing: %w", printable(e.path), contents.N, io.ErrUnexpectedEOF)
		}
		if end, err := in.ReadByte(); err != nil || end != '\n' {
			return fmt.Errorf("read %s: git's answer has no end: %w", printable(e.path), errors.Join(err, io.ErrUnexpectedEOF))
		}
	}
	return nil
}
