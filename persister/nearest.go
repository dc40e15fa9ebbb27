package persister

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"sluice/messages"
)

// Bounds of the search for what an unmatched pattern may have meant, so that
// 100 patterns against 100,000 files stay below a second.
const (
	maxNearest    = 3      // suggestions
	maxCandidates = 20_000 // files looked at
	maxCompared   = 500    // of them, names compared letter by letter
	maxDistance   = 64     // bytes of a name that are compared so
)

// likely is the least score of a suggestion: the same folder with the same
// suffix, the same name elsewhere, or a name that is nearly the same.
const (
	likely = 4.5
	sure   = 20
)

type suggestion struct {
	path  messages.Path
	score float64
}

// nearest returns the files that a pattern most likely meant, the likeliest
// first.
func nearest(g glob, files []messages.Path) []messages.Path {
	folded := compile(strings.ToLower(g.pattern))
	base := compile(path.Base(g.pattern))
	dir := compile(path.Dir(g.pattern))
	var best []suggestion
	compared := 0
	for _, f := range files[:min(len(files), maxCandidates)] {
		s := score(g, folded, base, dir, string(f))
		if s > 0 && s < sure && compared < maxCompared {
			compared++
			s += 5 * similarity(strings.ReplaceAll(base.pattern, "*", ""), path.Base(string(f)))
		}
		if s < likely || len(best) == maxNearest && s <= best[maxNearest-1].score {
			continue
		}
		best = append(best, suggestion{f, s})
		slices.SortStableFunc(best, func(a, b suggestion) int { return cmp.Compare(b.score, a.score) })
		best = best[:min(len(best), maxNearest)]
	}
	paths := make([]messages.Path, len(best))
	for i, s := range best {
		paths[i] = s.path
	}
	return paths
}

// score says how much a file looks like what a pattern meant: 0 for nothing.
func score(g, folded, base, dir glob, file string) float64 {
	if folded.match(strings.ToLower(file)) {
		return sure // only letters' case differs
	}
	total := 0.0
	name := path.Base(file)
	if base.match(name) {
		total += 6 // the right name in another folder
	}
	if dir.match(path.Dir(file)) {
		total += 3
	}
	if ext := path.Ext(g.pattern); ext != "" && ext == path.Ext(name) {
		total += 2
	}
	return total
}

// similarity is 1 for equal names and 0 for names that share nothing.
func similarity(a, b string) float64 {
	a, b = strings.ToLower(a[:min(len(a), maxDistance)]), strings.ToLower(b[:min(len(b), maxDistance)])
	longest := max(len(a), len(b))
	if longest == 0 {
		return 0
	}
	return 1 - float64(distance(a, b))/float64(longest)
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
