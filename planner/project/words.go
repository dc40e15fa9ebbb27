package project

import (
	"errors"
	"strings"
)

// Faults of a line of words, in the words of Python's shlex.
var (
	ErrNoClosingQuote     = errors.New("No closing quotation") //nolint:staticcheck // users know it so
	ErrNoEscapedCharacter = errors.New("No escaped character") //nolint:staticcheck // users know it so
)

// Split takes a line apart as Python's shlex.split does: words between blanks,
// tabs and line ends; quotes and back slashes as in a POSIX shell; no comments,
// no variables, no wildcards. No library does exactly that, and studies have
// been written against it for years.
func Split(line string) ([]string, error) {
	var (
		words  []string
		word   strings.Builder
		inWord bool // a word has begun, if only as an empty quotation
	)
	for i := 0; i < len(line); i++ {
		switch c := line[i]; c {
		case ' ', '\t', '\r', '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		case '\\':
			i++
			if i == len(line) {
				return nil, ErrNoEscapedCharacter
			}
			word.WriteByte(line[i])
			inWord = true
		case '\'', '"':
			end, err := quoted(&word, line, i)
			if err != nil {
				return nil, err
			}
			i = end
			inWord = true
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// quoted copies the quotation that opens at line[open] and returns where it
// closes. Inside double quotes a back slash takes the meaning from a quote and
// from another back slash; before anything else it stands for itself.
func quoted(word *strings.Builder, line string, open int) (int, error) {
	quote := line[open]
	for i := open + 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == quote:
			return i, nil
		case c == '\\' && quote == '"':
			i++
			if i == len(line) {
				return 0, ErrNoEscapedCharacter
			}
			if line[i] != '"' && line[i] != '\\' {
				word.WriteByte('\\')
			}
			word.WriteByte(line[i])
		default:
			word.WriteByte(c)
		}
	}
	return 0, ErrNoClosingQuote
}

// Join is the inverse of Split, as Python's shlex.join: words that need it are
// put in single quotes, everything beyond ASCII among them.
func Join(words []string) string {
	quotedWords := make([]string, len(words))
	for i, word := range words {
		quotedWords[i] = quote(word)
	}
	return strings.Join(quotedWords, " ")
}

func quote(word string) string {
	if word == "" {
		return "''"
	}
	if strings.IndexFunc(word, unsafeInShell) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'"'"'`) + "'"
}

func unsafeInShell(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune("_@%+=:,./-", r)
}
