package messages_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/messages"
)

func listed(n int) []messages.File {
	var files []messages.File
	for i := range n {
		files = append(files, messages.File{Path: messages.Path(fmt.Sprintf("output/%06d\n\xff.csv", n-i)), Kind: messages.KindFile, Size: 3, Digest: digest})
	}
	return files
}

func TestListing(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 20, 20_000} {
		l, encoded, err := messages.NewListing(listed(n))
		if err != nil {
			t.Fatal(err)
		}
		if l.Stored != (n == 20_000) || l.Count != n || l.Bytes != int64(3*n) {
			t.Errorf("%d files: %+v", n, l.Stored)
		}
		got, err := l.Read(bytes.NewReader(encoded))
		if err != nil || len(got) != n {
			t.Errorf("Read of %d files = %d, %v", n, len(got), err)
		}
		if n == 0 {
			continue
		}
		l.Count++
		if _, err := l.Read(bytes.NewReader(encoded)); err == nil {
			t.Errorf("a listing that says one file more was read")
		}
		l.Count--
		l.Digest = messages.Digest([]byte("other"))
		if _, err := l.Read(bytes.NewReader(encoded)); err == nil {
			t.Errorf("a listing with another digest was read")
		}
	}
}

func TestListingRefuses(t *testing.T) {
	t.Parallel()
	line := `{"path":"a","kind":"file","size":1,"digest":"` + digest + `"}` + "\n"
	for _, text := range []string{line + line, "nonsense\n", `{"path":"../a","kind":"FIFO"}` + "\n", `{"path":"a","kind":"file"}` + "\n", strings.Repeat("x", 1<<20)} {
		l := messages.Listing{Stored: true, Count: strings.Count(text, "\n"), Digest: messages.Digest([]byte(text))}
		if files, err := l.Read(strings.NewReader(text)); err == nil {
			t.Errorf("Read(%.40q) = %v, want an error", text, files)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add([]byte(`{"path":"a","kind":"file","size":1,"digest":"` + digest + `"}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := messages.Listing{Stored: true, Count: bytes.Count(data, []byte("\n")), Digest: messages.Digest(data)}
		files, err := l.Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, file := range files {
			if file.Path.Check() != nil {
				t.Errorf("path %q was accepted", string(file.Path))
			}
		}
	})
}

func TestGlob(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, path string
		want          bool
	}{
		{"output/*.csv", "output/a.csv", true},
		{"output/*.csv", "output/.csv", true},
		{"output/*.csv", "output/sub/a.csv", false},
		{"output/*.csv", "output/a.csv.gz", false},
		{"*/*", "a", false},
		{"{a,b}.csv", "a.csv", false},
		{"{a,b}.csv", "{a,b}.csv", true},
		{"a?.csv", "ab.csv", false},
		{"*", "a\nb", true},
	} {
		if got := messages.Glob(tc.pattern, tc.path); got != tc.want {
			t.Errorf("Glob(%q, %q) = %v, want %v", tc.pattern, tc.path, got, tc.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.SampledFrom([]byte("ab*/.\n")), 0, 12)
		pattern, path := string(text.Draw(t, "pattern")), strings.ReplaceAll(string(text.Draw(t, "path")), "*", "b")
		re := regexp.MustCompile(`(?s)\A` + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `[^/]*`) + `\z`)
		if diff := cmp.Diff(re.MatchString(path), messages.Glob(pattern, path)); diff != "" {
			t.Fatalf("Glob(%q, %q) (-regexp +got):\n%s", pattern, path, diff)
		}
	})
}
