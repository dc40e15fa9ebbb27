package messages

import "strings"

// Glob reports whether a pattern of a project file matches a path. The rules
// are the reference's: "*" stands for any run of characters but "/", also
// none, also a leading dot; everything else stands for itself. It takes time
// in proportion to the product of both lengths at worst.
func Glob(pattern, path string) bool {
	for {
		pat, morePat, inner := strings.Cut(pattern, "/")
		seg, morePath, innerPath := strings.Cut(path, "/")
		if inner != innerPath || !globSegment(pat, seg) {
			return false
		}
		if !inner {
			return true
		}
		pattern, path = morePat, morePath
	}
}

// globSegment matches within one segment: the last star is where to go back to.
func globSegment(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && pattern[p] == s[i]:
			p, i = p+1, i+1
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
