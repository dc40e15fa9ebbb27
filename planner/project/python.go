package project

import (
	"math"
	"math/big"
	"path"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// This file has the few functions of Python on which the meaning of a project
// file rests: studies were written against them.

// pythonFloat prints f as Python does: 5.0, 1e+16, nan.
func pythonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	text := strconv.FormatFloat(f, 'e', -1, 64)
	exponent, err := strconv.Atoi(text[strings.IndexByte(text, 'e')+1:])
	if err == nil && -4 <= exponent && exponent < 16 {
		text = strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
	}
	return text
}

var (
	floatText      = regexp.MustCompile(`^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
	floatWord      = regexp.MustCompile(`^(?i)[-+]?(inf|infinity|nan)$`)
	intText        = regexp.MustCompile(`^[-+]?[0-9]+$`)
	looseSeparator = regexp.MustCompile(`(^|[^0-9])_|_([^0-9]|$)`)
)

// parsePythonFloat is float(text).
func parsePythonFloat(text string) (float64, bool) {
	digits, ok := pythonDigits(text)
	if !ok || !floatText.MatchString(digits) && !floatWord.MatchString(digits) {
		return 0, false
	}
	if strings.HasSuffix(strings.ToLower(digits), "nan") {
		return math.NaN(), true // Go wants it without a sign
	}
	// The error left is a range: ±Inf or 0, as Python has it.
	f, _ := strconv.ParseFloat(digits, 64) //nolint:errcheck // see above
	return f, true
}

// maxDigits is how many digits Python's int takes from a string.
const maxDigits = 4300

// parsePythonInt is int(text), as decimal digits.
func parsePythonInt(text string) (string, bool) {
	digits, ok := pythonDigits(text)
	if !ok || len(digits) > maxDigits || !intText.MatchString(digits) {
		return "", false
	}
	n, ok := new(big.Int).SetString(digits, 10)
	if !ok {
		return "", false
	}
	return n.String(), true
}

// pythonDigits prepares a number as Python reads one from a string: blanks
// around it go, single underscores between digits go, digits of any script
// count.
func pythonDigits(text string) (string, bool) {
	blank := pythonSpace
	if strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII }) < 0 {
		blank = func(r rune) bool { return r == ' ' || '\t' <= r && r <= '\r' } // as in C
	}
	text = strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII && unicode.Is(unicode.Nd, r) {
			return '0' + digitValue(r)
		}
		return r
	}, strings.TrimFunc(text, blank))
	if strings.Contains(text, "__") || looseSeparator.MatchString(text) {
		return "", false
	}
	return strings.ReplaceAll(text, "_", ""), true
}

// digitValue is the value of a decimal digit. Unicode has them in runs of ten.
func digitValue(r rune) rune {
	for _, part := range unicode.Nd.R16 {
		if rune(part.Lo) <= r && r <= rune(part.Hi) {
			return (r - rune(part.Lo)) % 10
		}
	}
	for _, part := range unicode.Nd.R32 {
		if rune(part.Lo) <= r && r <= rune(part.Hi) {
			return (r - rune(part.Lo)) % 10
		}
	}
	return 0
}

// pythonSpace is what \s and str.strip take for a blank.
func pythonSpace(r rune) bool {
	return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f
}

// normPath is os.path.normpath: two leading slashes stay, as do leading dots.
func normPath(p string) string {
	switch {
	case p == "":
		return "."
	case strings.HasPrefix(p, "//") && !strings.HasPrefix(p, "///"):
		return "/" + path.Clean(p)
	}
	return path.Clean(p)
}

// purePath is str(PurePosixPath(p)): no empty and no "." elements, ".." kept.
func purePath(p string) string {
	root := ""
	switch {
	case strings.HasPrefix(p, "//") && !strings.HasPrefix(p, "///"):
		root = "//"
	case strings.HasPrefix(p, "/"):
		root = "/"
	}
	var elements []string
	for element := range strings.SplitSeq(p, "/") {
		if element != "" && element != "." {
			elements = append(elements, element)
		}
	}
	if root == "" && len(elements) == 0 {
		return "."
	}
	return root + strings.Join(elements, "/")
}

// pureName is PurePosixPath(p).name.
func pureName(p string) string {
	p = strings.TrimLeft(purePath(p), "/")
	if p == "." {
		return ""
	}
	return p[strings.LastIndexByte(p, '/')+1:]
}

// pureParent is str(PurePosixPath(p).parent).
func pureParent(p string) string {
	p = purePath(p)
	name := pureName(p)
	if name == "" {
		return p
	}
	p = p[:len(p)-len(name)]
	if strings.Trim(p, "/") == "" && p != "" {
		return p
	}
	return purePath(p)
}

// pureSuffix is PurePosixPath(p).suffix: from the last dot of the name, if
// something stands on both sides of it.
func pureSuffix(p string) string {
	name := pureName(p)
	if i := strings.LastIndexByte(name, '.'); 0 < i && i < len(name)-1 {
		return name[i:]
	}
	return ""
}
