package persister

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/messages"
)

func rules(pairs ...string) []messages.Rule {
	var list []messages.Rule
	for i := 0; i+1 < len(pairs); i += 2 {
		list = append(list, messages.Rule{Tier: messages.Tier(pairs[i]), Name: fmt.Sprint(i), Pattern: pairs[i+1]})
	}
	return list
}

func regular(names ...string) []messages.File {
	var list []messages.File
	for _, n := range names {
		list = append(list, messages.File{Path: messages.Path(n), Kind: messages.KindFile})
	}
	return list
}

const (
	hi      = string(messages.HighlySensitive)
	mod     = string(messages.ModeratelySensitive)
	minimal = string(messages.MinimallySensitive)
)

func TestMatch(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		rules []messages.Rule
		files []messages.File
		given []messages.Path
		want  Matching
	}{
		{
			name: "the most protected tier wins, whatever the order", rules: rules(minimal, "*.csv", hi, "a*", mod, "*.csv"), files: regular("b.csv", "a.csv"),
			want: Matching{
				Files:  []Matched{{File: regular("a.csv")[0], Tier: messages.HighlySensitive}, {File: regular("b.csv")[0], Tier: messages.ModeratelySensitive}},
				Raised: []messages.Path{"a.csv", "b.csv"},
			},
		},
		{
			name: "two rules of one tier raise nothing", rules: rules(hi, "*.csv", hi, "a*"), files: regular("a.csv"),
			want: Matching{Files: []Matched{{File: regular("a.csv")[0], Tier: messages.HighlySensitive}}},
		},
		{
			name: "only old files", rules: rules(hi, "in/*.csv"), files: regular("out/x.rds"), given: []messages.Path{"in/a.csv"},
			want: Matching{
				Unmatched: []messages.Unmatched{{Pattern: "in/*.csv", Old: true, Nearest: []messages.Path{}}},
				Leftover:  []messages.Path{"out/x.rds"},
			},
		},
		{
			name: "a pattern that is written twice is listed once", rules: rules(hi, "a.csv", mod, "a.csv"),
			want: Matching{Unmatched: []messages.Unmatched{{Pattern: "a.csv", Nearest: []messages.Path{}}}},
		},
		{
			name: "links match nothing", rules: rules(hi, "a.csv"), files: []messages.File{{Path: "a.csv", Kind: messages.KindLink}, {Path: "s", Kind: messages.KindSocket}},
			want: Matching{
				Unmatched: []messages.Unmatched{{Pattern: "a.csv", Nearest: []messages.Path{}}},
				Refused: []messages.FileProblem{
					{Path: "a.csv", Reason: "symbolic link: only regular files with one link are kept"}, {Path: "s", Reason: "socket: only regular files with one link are kept"},
				},
			},
		},
		{
			name: "bytes that are not UTF-8 are not all the same", rules: rules(hi, "\ufffd.csv", hi, "*\ufffd.txt"), files: regular("\xff.csv", "\xfe.txt"),
			want: Matching{
				Unmatched: []messages.Unmatched{{Pattern: "\ufffd.csv", Nearest: []messages.Path{"\xff.csv", "\xfe.txt"}}, {Pattern: "*\ufffd.txt", Nearest: []messages.Path{"\xfe.txt", "\xff.csv"}}},
				Leftover:  []messages.Path{"\xfe.txt", "\xff.csv"},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, Match(tc.rules, tc.files, tc.given)); diff != "" {
				t.Errorf("Match (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	t.Parallel()
	files := []messages.Path{"Output/Table.csv", "log.txt", "output/deep/table1.csv", "output/figure.png", "output/tabel1.csv", "results/table2.csv", "unrelated.bin"}
	for pattern, want := range map[string][]messages.Path{
		"output/table.csv":  {"Output/Table.csv", "output/tabel1.csv"},
		"output/table1.csv": {"output/deep/table1.csv", "output/tabel1.csv"}, // the very name elsewhere, then a slip
		"table2.csv":        {"results/table2.csv"},
		"results/*.svg":     {},
		"output/*.csv.gz":   {},
		"x/y/z/nothing.rds": {},
		"LOG.txt":           {"log.txt"},
		"output/fig*.svg":   {"output/figure.png"},
	} {
		got := nearest(compile(pattern), files)
		if len(got) > maxNearest {
			t.Errorf("%s: got %d suggestions", pattern, len(got))
		}
		if len(want) == 0 && len(got) == 0 {
			continue
		}
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			t.Errorf("%s: got %v, want %v first", pattern, got, want)
		}
	}
}

// A hundred patterns that nothing matches, against 100,000 names as alike as
// can be: the work is bounded, so this is over at once.
func TestNearestIsBounded(t *testing.T) {
	t.Parallel()
	name := strings.Repeat("n", 250)
	var files []messages.File
	for i := range 100_000 {
		files = append(files, messages.File{Path: messages.Path(fmt.Sprintf("out/%s%d", name[:240], i)), Kind: messages.KindFile})
	}
	var list []messages.Rule
	for i := range 150 {
		list = append(list, messages.Rule{Tier: messages.HighlySensitive, Pattern: fmt.Sprintf("out/*m%s%d", name[:200], i)})
	}
	m := Match(list, files, nil)
	if len(m.Unmatched) != 150 || len(m.Unmatched[0].Nearest) != maxNearest || m.Unmatched[149].Nearest != nil {
		t.Errorf("got %d unmatched, first %v, last %v", len(m.Unmatched), m.Unmatched[0].Nearest, m.Unmatched[149].Nearest)
	}
}

var (
	patterns = rapid.StringOfN(rapid.SampledFrom([]rune("ab./*{}[]?\\!^-,\n☃\ufffd")), 0, 12, -1)
	paths    = rapid.Custom(func(t *rapid.T) string {
		return string(rapid.SliceOfN(rapid.SampledFrom([]byte("ab./{}[]?\\!^-,\n*\xff\xfe\xe2")), 0, 12).Draw(t, "bytes"))
	})
)

// doublestar with escapes and the matcher that worker and planner use agree.
func TestGlobsAgree(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pattern := patterns.Draw(t, "pattern")
		path := paths.Draw(t, "path")
		if rapid.Bool().Draw(t, "alike") { // a path that the pattern may well match
			path = strings.ReplaceAll(pattern, "*", rapid.SampledFrom([]string{"", "a", "a\xff", ".", "a/b"}).Draw(t, "star"))
		}
		if got, want := compile(pattern).match(path), messages.Glob(pattern, path); got != want {
			t.Fatalf("pattern %q, path %q: doublestar %v, messages.Glob %v", pattern, path, got, want)
		}
	})
}

// Matching does not depend on the order of files or rules.
func TestMatchIsStable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tiers := rapid.SampledFrom([]string{hi, mod, minimal})
		var list []messages.Rule
		for range rapid.IntRange(0, 5).Draw(t, "rules") {
			list = append(list, rules(tiers.Draw(t, "tier"), patterns.Draw(t, "pattern"))...)
		}
		files := regular(rapid.SliceOfDistinct(paths, func(s string) string { return s }).Draw(t, "files")...)
		want := Match(list, files, nil)
		r := rand.New(rand.NewPCG(1, rapid.Uint64().Draw(t, "seed")))
		r.Shuffle(len(files), func(i, j int) { files[i], files[j] = files[j], files[i] })
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		got := Match(list, files, nil)
		for _, m := range []*Matching{&want, &got} {
			slices.SortFunc(m.Unmatched, func(a, b messages.Unmatched) int { return strings.Compare(a.Pattern, b.Pattern) })
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("shuffled (-want +got):\n%s", diff)
		}
	})
}

func FuzzMatch(f *testing.F) {
	f.Add("output/*.csv", "output/a.csv")
	f.Add("a{b,c}.csv", "ab.csv")
	f.Add("**/[x]?", "a/\xff")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if got, want := compile(pattern).match(path), messages.Glob(pattern, path); got != want {
			t.Errorf("pattern %q, path %q: doublestar %v, messages.Glob %v", pattern, path, got, want)
		}
		m := Match(rules(hi, pattern), regular(path), []messages.Path{messages.Path(path)})
		if n := len(m.Files) + len(m.Leftover) + len(m.Refused); n != 1 {
			t.Errorf("pattern %q, path %q: the file is in %d lists", pattern, path, n)
		}
	})
}
