package project

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text renders the report for a person at a terminal: for each problem its
// place, the sentence, the line with a caret below, and the hint. What comes
// from the file cannot steer the terminal: control characters are escaped.
func (r Report) Text() string {
	var out strings.Builder
	lines := r.lines()
	for _, p := range r.Errors {
		fmt.Fprintf(&out, "%s%s: %s\n", visible(r.file), location(p), strings.ReplaceAll(visibleLines(p.Message), "\n", "\n  "))
		if 0 < p.Line && p.Line <= len(lines) {
			source, caret := excerpt(lines[p.Line-1], p.Column)
			gutter := fmt.Sprintf("%5d | ", p.Line)
			fmt.Fprintf(&out, "%s%s\n%*s%s^\n", gutter, source, len(gutter), "| ", caret)
		}
		fmt.Fprintf(&out, "  hint: %s\n\n", visible(p.Hint))
	}
	for _, warning := range r.Warnings {
		fmt.Fprintf(&out, "%s: warning: %s\n", visible(r.file), visible(strings.TrimPrefix(warning, "ProjectWarning: ")))
	}
	if n := len(r.Errors); n > 0 {
		fmt.Fprintf(&out, "%s: invalid: %s\n", visible(r.file), counted(n, "problem"))
	} else {
		fmt.Fprintf(&out, "%s: valid: version %s, %s, %s\n", visible(r.file), r.Version, counted(len(r.Actions), "action"), counted(len(r.Levels), "level"))
	}
	return out.String()
}

func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func location(p Problem) string {
	if p.Line == 0 {
		return ""
	}
	return fmt.Sprintf(":%d:%d", p.Line, p.Column)
}

// lines are the lines of the source as the parser counts them.
func (r Report) lines() []string {
	if len(r.Errors) == 0 || len(r.source) > MaxBytes {
		return nil
	}
	text, ok := toUTF8(r.source, &checker{})
	if !ok {
		text = r.source
	}
	return lineEnd.Split(string(text), -1)
}

// visible escapes every character of a text that is not meant to be seen:
// controls, line ends, direction marks, bytes that are no character.
func visible(text string) string {
	var out strings.Builder
	for i, r := range text {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(text[i:], "\ufffd"):
			fmt.Fprintf(&out, `\x%02x`, text[i])
		case r == ' ' || unicode.IsPrint(r):
			out.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&out, `\x%02x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
	}
	return out.String()
}

// visibleLines is visible, but keeps line ends.
func visibleLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = visible(line)
	}
	return strings.Join(lines, "\n")
}

// excerpt returns the part of a line around a column, fit for a terminal, and
// the blanks that bring a caret below that column.
func excerpt(line string, column int) (source, caret string) {
	const before, most = 70, 100
	runes := []rune(line)
	column = min(max(column-1, 0), len(runes))
	start := max(0, column-before)
	end := min(len(runes), start+most)
	head, tail := "", ""
	if start > 0 {
		head = "…"
	}
	if end < len(runes) {
		tail = "…"
	}
	lead := head + visible(string(runes[start:column]))
	return lead + visible(string(runes[column:end])) + tail, strings.Repeat(" ", utf8.RuneCountInString(lead))
}
