package project

// An fnmatch is a compiled pattern of Python's fnmatch: * and ? cross slashes,
// [a-z] and [!a-z] are sets. It matches in time that grows with the product of
// both lengths, whatever the pattern.
type fnmatch []fnPart

// A fnPart matches one character, or any number of them if star is set.
type fnPart struct {
	star   bool
	any    bool // any one character
	not    bool // none of the ranges
	ranges [][2]rune
}

func newFnmatch(pattern string) fnmatch {
	var parts fnmatch
	runes := []rune(pattern)
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; r {
		case '*':
			if n := len(parts); n == 0 || !parts[n-1].star {
				parts = append(parts, fnPart{star: true})
			}
		case '?':
			parts = append(parts, fnPart{any: true})
		case '[':
			end := setEnd(runes, i)
			if end < 0 {
				parts = append(parts, fnPart{ranges: [][2]rune{{r, r}}})
				continue
			}
			parts = append(parts, newSet(runes[i+1:end]))
			i = end
		default:
			parts = append(parts, fnPart{ranges: [][2]rune{{r, r}}})
		}
	}
	return parts
}

// setEnd is where the set that opens at i closes, or -1. A bracket that comes
// first in the set is a member of it.
func setEnd(runes []rune, i int) int {
	j := i + 1
	if j < len(runes) && runes[j] == '!' {
		j++
	}
	if j < len(runes) && runes[j] == ']' {
		j++
	}
	for ; j < len(runes); j++ {
		if runes[j] == ']' {
			return j
		}
	}
	return -1
}

// newSet reads what stands between the brackets. A range that runs backwards
// has no members.
func newSet(inside []rune) fnPart {
	var part fnPart
	if len(inside) > 0 && inside[0] == '!' {
		part.not, inside = true, inside[1:]
	}
	for i := 0; i < len(inside); i++ {
		low, high := inside[i], inside[i]
		if i+2 < len(inside) && inside[i+1] == '-' {
			high = inside[i+2]
			i += 2
		}
		part.ranges = append(part.ranges, [2]rune{low, high})
	}
	return part
}

func (p fnPart) matches(r rune) bool {
	if p.any {
		return true
	}
	for _, in := range p.ranges {
		if in[0] <= r && r <= in[1] {
			return !p.not
		}
	}
	return p.not
}

// match reports whether the whole text matches.
func (f fnmatch) match(text string) bool {
	runes := []rune(text)
	i, j := 0, 0
	star, from := -1, 0 // where to try again with a longer star
	for i < len(runes) {
		switch {
		case j < len(f) && f[j].star:
			star, from = j, i
			j++
		case j < len(f) && f[j].matches(runes[i]):
			i++
			j++
		case star >= 0:
			from++
			i, j = from, star+1
		default:
			return false
		}
	}
	for j < len(f) && f[j].star {
		j++
	}
	return j == len(f)
}
