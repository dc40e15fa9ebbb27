package persister

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"

	"sluice/messages"
)

// A Matching is what a job's rules make of an attempt's new files.
type Matching struct {
	Files     []Matched              // sorted by path
	Unmatched []messages.Unmatched   // patterns without a new file, in the order of the rules
	Leftover  []messages.Path        // new regular files that no rule names, sorted
	Refused   []messages.FileProblem // entries that are never kept, whether a rule names them or not, sorted
	Raised    []messages.Path        // files that rules of two tiers name: the more protected won
}

// A Matched is a new file and the tier that it belongs to.
type Matched struct {
	messages.File
	Tier messages.Tier
}

// reserved are folders of a workspace that are no action's to write.
var reserved = map[string]string{
	"metadata": "the metadata folder is kept by Sluice",
	".sluice":  "the .sluice folder is kept by Sluice",
	".git":     "the .git folder belongs to the repository",
}

// Match applies rules to a listing. Of two rules that match a file the most
// protected wins. Given are files that the action was given, or some of them:
// they explain a pattern that only old files match. Match is pure, and does
// not depend on the order of its arguments but for the order of Unmatched.
func Match(rules []messages.Rule, listing []messages.File, given []messages.Path) Matching {
	files := slices.Clone(listing)
	slices.SortFunc(files, func(a, b messages.File) int { return cmp.Compare(a.Path, b.Path) })
	globs := compileAll(rules)
	used := make([]bool, len(globs))
	var m Matching
	for _, f := range files {
		if reason := refuse(f); reason != "" {
			m.Refused = append(m.Refused, messages.FileProblem{Path: f.Path, Reason: reason})
			continue
		}
		tier, raised := messages.Tier(""), false
		for i, g := range globs {
			if !g.match(string(f.Path)) {
				continue
			}
			used[i] = true
			raised = raised || tier != "" && tier != g.tier
			if g.tier.Protection() > tier.Protection() {
				tier = g.tier
			}
		}
		switch {
		case tier == "":
			m.Leftover = append(m.Leftover, f.Path)
			continue
		case raised:
			m.Raised = append(m.Raised, f.Path)
		}
		m.Files = append(m.Files, Matched{File: f, Tier: tier})
	}
	m.Unmatched = unmatched(globs, used, given, m.Leftover)
	return m
}

// refuse says why an entry is never kept, or "".
func refuse(f messages.File) string {
	first, _, _ := strings.Cut(string(f.Path), "/")
	switch {
	case f.Path.Check() != nil:
		return "not a path beneath the workspace"
	case reserved[first] != "":
		return reserved[first]
	case f.Kind == messages.KindFile:
		return ""
	}
	return string(f.Kind) + ": only regular files with one link are kept"
}

// unmatched lists each pattern that no new file matches, once.
func unmatched(globs []glob, used []bool, given, leftover []messages.Path) []messages.Unmatched {
	matched := make(map[string]bool, len(globs))
	for i, g := range globs {
		matched[g.pattern] = matched[g.pattern] || used[i]
	}
	var list []messages.Unmatched
	for _, g := range globs {
		if matched[g.pattern] {
			continue
		}
		matched[g.pattern] = true // list it once
		u := messages.Unmatched{Pattern: g.pattern}
		u.Old = slices.ContainsFunc(given, func(p messages.Path) bool { return g.match(string(p)) })
		if len(list) < messages.MaxResultPatterns {
			u.Nearest = nearest(g, leftover)
		}
		list = append(list, u)
	}
	return list
}

// A glob is a rule's pattern, ready to match. Its only wildcard is *, which
// stands for any run of bytes without a slash, dots and newlines included; the
// rest is literal and case-sensitive (facts of the reference: pipeline's
// validate_glob_pattern, and pathlib's Path.glob for what is left).
type glob struct {
	tier    messages.Tier
	pattern string
	escaped string // for doublestar
	bytes   string // for doublestar, each byte a rune of its own
	prefix  string // before the first *
	suffix  string // behind the last *
	literal bool
}

func compileAll(rules []messages.Rule) []glob {
	globs := make([]glob, len(rules))
	for i, r := range rules {
		globs[i] = compile(r.Pattern)
		globs[i].tier = r.Tier
	}
	return globs
}

func compile(pattern string) glob {
	g := glob{pattern: pattern, escaped: escape(pattern)}
	first := strings.IndexByte(pattern, '*')
	if first < 0 {
		g.literal = true
		return g
	}
	g.prefix, g.suffix = pattern[:first], pattern[strings.LastIndexByte(pattern, '*')+1:]
	g.bytes = asRunes(g.escaped)
	return g
}

// match reports whether the pattern is for this path.
func (g glob) match(path string) bool {
	switch {
	case g.literal:
		return g.pattern == path
	case len(path) < len(g.prefix)+len(g.suffix) || !strings.HasPrefix(path, g.prefix) || !strings.HasSuffix(path, g.suffix):
		return false
	case utf8.ValidString(path) && utf8.ValidString(g.pattern):
		return doublestar.MatchUnvalidated(g.escaped, path)
	}
	// doublestar compares runes, and takes all bytes that are not UTF-8 for the
	// same one.
	return doublestar.MatchUnvalidated(g.bytes, asRunes(path))
}

// escape makes all that doublestar would take for a wildcard literal, but for
// single stars.
func escape(pattern string) string {
	var b strings.Builder
	for i := range len(pattern) {
		switch c := pattern[i]; c {
		case '*':
			if i > 0 && pattern[i-1] == '*' {
				continue // ** would cross slashes
			}
			b.WriteByte(c)
		case '{', '}', '[', ']', '?', '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// asRunes returns a string that has each byte of s as a rune.
func asRunes(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}
