package project

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A checker collects problems in the order in which they are met.
type checker struct {
	problems Problems
	warnings []string
	said     int // bytes of all messages
	compared int // pairs of names, in search of what was meant
	kept     int // bytes of what the actions hold
}

// maxSaid bounds the bytes of all messages together.
const maxSaid = 1 << 20

// add notes a problem. After maxProblems it notes only that there are more.
func (c *checker) add(rule Rule, line, column int, message, hint string) {
	if n := len(c.problems); n > 0 && c.problems[n-1].Rule == RuleTooMany {
		return
	}
	if len(c.problems) == maxProblems || c.said > maxSaid {
		rule, line, column = RuleTooMany, 0, 0
		message = fmt.Sprintf("The file has more than %d problems; only the first are shown", len(c.problems))
		hint = "Correct these and check the file again."
	}
	c.said += len(message) + len(hint)
	c.problems = append(c.problems, Problem{Message: message, Hint: hint, Rule: rule, Line: line, Column: column})
}

// room takes n bytes from what all actions may hold together, and reports
// whether there were so many. Without it a small file could have a large
// section repeated in every action by an alias.
func (c *checker) room(v *value, n int) bool {
	before := c.kept
	c.kept += n
	if c.kept <= maxKept {
		return true
	}
	if before <= maxKept {
		c.at(v, RuleExpansion, fmt.Sprintf("The actions hold more than %d bytes when aliases are followed", maxKept), "Use fewer aliases, or write a smaller project.")
	}
	c.kept = maxKept + 1
	return false
}

// at notes a problem at the place of v.
func (c *checker) at(v *value, rule Rule, message, hint string) {
	c.add(rule, v.line, v.column, message, hint)
}

// shorten keeps a text that comes from the file fit for a sentence.
func shorten(text string) string {
	const most = 60
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}

// nearest returns the candidate that name was most likely meant to be, or "".
// A file can cause only so many comparisons.
func (c *checker) nearest(name string, candidates []string) string {
	const longest, mostCompared = 50, 100_000
	if len(name) > longest {
		return ""
	}
	best, bestDistance := "", min(3, len(name))
	for _, candidate := range candidates {
		if c.compared++; c.compared > mostCompared {
			break
		}
		if candidate == name || len(candidate) > longest {
			continue
		}
		if strings.EqualFold(candidate, name) {
			return candidate
		}
		if distance := editDistance(name, candidate); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	return best
}

// editDistance counts the bytes to insert, remove or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
