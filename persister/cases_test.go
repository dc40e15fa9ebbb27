package persister

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/needs"
	"sluice/messages"
)

type globCase struct {
	ID         string            `json:"id"`
	Pattern    string            `json:"pattern"`
	Files      []string          `json:"files"`
	Matches    []string          `json:"matches"`
	Error      string            `json:"error"`
	Symlinks   map[string]string `json:"symlinks"`
	Note       string            `json:"note"`
	Validation struct {
		High string `json:"highly_sensitive"`
	} `json:"pattern_validation"`
}

// ours returns what is right here, and which difference that shows.
func (c globCase) ours() (want []string, why string) {
	switch {
	case strings.HasPrefix(c.Note, "SECURITY"):
		return nil, `row "symlinks followed, a leading .. climbs out": refused here`
	case strings.Contains(c.Validation.High, "only the * wildcard character is supported"):
		// No valid project has such a pattern. The reference's engine would take
		// **, ? and [ for wildcards; here they are literal, and ** is *.
		for _, f := range c.Files {
			if messages.Glob(c.Pattern, f) {
				want = append(want, f)
			}
		}
		return want, "refused by validation: literal here"
	}
	return c.Matches, ""
}

func TestGlobCases(t *testing.T) {
	t.Parallel()
	for _, c := range needs.Cases[globCase](t, "globs.jsonl") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			want, why := c.ours()
			if why != "" {
				t.Logf("%q differs on purpose: %s", c.Pattern, why)
			}
			g := compile(c.Pattern)
			var got []string
			for _, f := range c.Files {
				if g.match(f) {
					got = append(got, f)
				}
			}
			if diff := cmp.Diff(set(want), set(got)); diff != "" {
				t.Errorf("pattern %q matches (-want +got):\n%s", c.Pattern, diff)
			}
		})
	}
}

func set(list []string) map[string]bool {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return m
}

type outputsCase struct {
	ID        string                       `json:"id"`
	Note      string                       `json:"note"`
	Section   map[string]map[string]string `json:"outputs_section"`
	Old       []string                     `json:"pre_existing_files"`
	Written   []string                     `json:"written_by_job"`
	Modified  []string                     `json:"modified_by_job"`
	OldTime   []string                     `json:"written_with_old_mtime"`
	Outputs   map[string]string            `json:"outputs"`
	Unmatched []string                     `json:"unmatched_patterns"`
	Leftover  []string                     `json:"unmatched_outputs"`
	Status    string                       `json:"status_if_exit_0"`
}

func TestOutputsCases(t *testing.T) {
	t.Parallel()
	for _, c := range needs.Cases[outputsCase](t, "outputs.jsonl") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			want := c.ours(t)
			var rules []messages.Rule
			for tier, named := range c.Section {
				for name, pattern := range named {
					rules = append(rules, messages.Rule{Tier: messages.Tier(tier), Name: name, Pattern: pattern})
				}
			}
			isNew := map[string]bool{}
			var listing []messages.File
			for _, list := range [][]string{c.Written, c.Modified, c.OldTime} {
				for _, f := range list {
					if !isNew[f] {
						listing = append(listing, messages.File{Path: messages.Path(f), Kind: messages.KindFile})
					}
					isNew[f] = true
				}
			}
			var given []messages.Path
			for _, f := range c.Old {
				if !isNew[f] {
					given = append(given, messages.Path(f))
				}
			}
			m := Match(rules, listing, given)
			got := outputsCase{Outputs: map[string]string{}}
			for _, f := range m.Files {
				got.Outputs[string(f.Path)] = string(f.Tier)
			}
			for _, u := range m.Unmatched {
				got.Unmatched = append(got.Unmatched, u.Pattern)
			}
			for _, p := range m.Leftover {
				got.Leftover = append(got.Leftover, string(p))
			}
			if diff := cmp.Diff(want.Outputs, got.Outputs); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(set(want.Unmatched), set(got.Unmatched)); diff != "" {
				t.Errorf("unmatched patterns (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(set(want.Leftover), set(got.Leftover)); diff != "" {
				t.Errorf("unmatched files (-want +got):\n%s", diff)
			}
		})
	}
}

// ours rewrites what the reference says where two rows of the table of
// differences apply: only new and changed files count, and of two rules that
// match a file the most protected wins. Both follow from the case's own lists
// of files and patterns.
func (c outputsCase) ours(t *testing.T) outputsCase {
	t.Helper()
	want := outputsCase{Outputs: map[string]string{}}
	matched := map[string]bool{}
	isNew := set(append(append(append([]string{}, c.Written...), c.Modified...), c.OldTime...))
	for f := range isNew {
		best := messages.Tier("")
		for tier, named := range c.Section {
			for _, pattern := range named {
				if messages.Glob(pattern, f) {
					matched[pattern] = true
					if p := messages.Tier(tier); p.Protection() > best.Protection() {
						best = p
					}
				}
			}
		}
		if best == "" {
			want.Leftover = append(want.Leftover, f)
		} else {
			want.Outputs[f] = string(best)
		}
	}
	for _, named := range c.Section {
		for _, pattern := range named {
			if !matched[pattern] {
				want.Unmatched = append(want.Unmatched, pattern)
			}
		}
	}
	// Where the reference says something else, one of the two rows must be why.
	for f, tier := range c.Outputs {
		switch got := want.Outputs[f]; {
		case got == tier:
		case got == "" && !isNew[f]:
			t.Logf("%s is old: row %q", f, "globs run over every file in the volume")
		case got != "" && messages.Tier(got).Protection() > messages.Tier(tier).Protection():
			t.Logf("%s is %s, not %s: row %q", f, got, tier, "of two rules that match a file the least protected wins")
		default:
			t.Errorf("%s is %q, in the reference %q, and no row of the table says why", f, got, tier)
		}
	}
	for f := range want.Outputs {
		if c.Outputs[f] == "" {
			t.Errorf("%s is an output here and not in the reference", f)
		}
	}
	return want
}

type level4Case struct {
	ID        string  `json:"id"`
	Note      string  `json:"note"`
	Filename  string  `json:"filename"`
	Content   *string `json:"content"`
	Base64    []byte  `json:"content_base64"`
	Generator *string `json:"content_generator"`
	Size      int64   `json:"size"`
	Limits    struct {
		Rows int   `json:"max_csv_rows"`
		Size int64 `json:"max_filesize"`
	} `json:"limits"`
	Allowed bool    `json:"allowed"`
	Message *string `json:"manifest_message"`
	Text    *string `json:"message_file"`
	Rows    *int    `json:"row_count"`
	Cols    *int    `json:"col_count"`
}

func TestLevel4Cases(t *testing.T) {
	t.Parallel()
	for _, c := range needs.Cases[level4Case](t, "level4.jsonl") {
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			content := c.Base64
			switch {
			case c.Content != nil:
				content = []byte(*c.Content)
			case c.Generator != nil && content == nil:
				content = generated(t, *c.Generator, c.Size)
			}
			if int64(len(content)) != c.Size {
				t.Fatalf("the content has %d bytes, the case says %d", len(content), c.Size)
			}
			checks := DefaultChecks()
			checks.MaxRows, checks.MaxSize = c.Limits.Rows, c.Limits.Size
			got, err := checks.Inspect(messages.Path(c.Filename), c.Size, bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if c.Allowed && !got.Allowed() {
				if !strings.Contains(got.Reason, "patient_id") && !strings.Contains(got.Reason, "could not be read") {
					t.Errorf("withheld: %s; the reference allows it and no row of the table says why not", got.Reason)
				}
				t.Logf("%s: stricter on purpose (%s): row %q", c.Note, got.Reason, "patient_id check: exact string, .csv only")
				return
			}
			want := Finding{Rows: c.Rows, Cols: c.Cols}
			if !c.Allowed {
				want.Reason, want.Text = *c.Message, *c.Text
			}
			if c.Rows == nil && got.Rows != nil {
				t.Logf("%s: read here and not by the reference: row %q", c.Note, "what cannot be read is withheld")
				want.Rows, want.Cols = got.Rows, got.Cols
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", c.Note, diff)
			}
		})
	}
}

// generated makes the content of a case that is too large to write down.
func generated(t *testing.T, how string, size int64) []byte {
	t.Helper()
	t.Logf("content generator: %s", how)
	line := []byte("a,b\n")
	data := bytes.Repeat([]byte("1,2\n"), int(size)/4+1)
	copy(data, line)
	return data[:size]
}
