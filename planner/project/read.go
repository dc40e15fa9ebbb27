package project

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// read returns the file's one document, or nil with the problems noted.
func read(data []byte, c *checker) *value {
	if len(data) > MaxBytes {
		c.add(RuleSize, 0, 0, fmt.Sprintf("The project file has %d bytes; at most %d are read", len(data), MaxBytes),
			"Data belongs in other files of the study; the largest real project is a quarter of that.")
		return nil
	}
	text, ok := toUTF8(data, c)
	if !ok {
		return nil
	}
	nodes, text, err := parseYAML(text)
	if err != nil {
		c.add(yamlProblem(err, text))
		return nil
	}
	if len(nodes) == 0 {
		return &value{line: 1, column: 1}
	}
	if len(nodes) > 1 {
		c.add(RuleDocuments, nodes[1].Line, nodes[1].Column, "The file has more than one YAML document",
			"Remove the line `---` that begins the second one.")
	}
	d := decoder{problems: c, done: map[*yaml.Node]*value{}}
	root := d.value(nodes[0], 0)
	if d.stopped {
		return nil
	}
	return root
}

// documents parses at most the first two documents: that there is a second is
// all that matters about it.
func documents(r io.Reader) (nodes []*yaml.Node, err error) {
	defer func() {
		// The YAML library reads hostile input here. It is well tested, but a
		// fault of it must not take a service down.
		if fault := recover(); fault != nil {
			err = fmt.Errorf("yaml: the parser gave up: %v", fault)
		}
	}()
	in := yaml.NewDecoder(r)
	for len(nodes) < 2 {
		var document yaml.Node
		switch err := in.Decode(&document); {
		case errors.Is(err, io.EOF):
			return nodes, nil
		case err != nil:
			return nil, err
		}
		node := &document
		if document.Kind == yaml.DocumentNode {
			node = document.Content[0]
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

// toUTF8 checks that data is text, turns UTF-16 with a byte order mark into
// UTF-8, and drops the mark.
func toUTF8(data []byte, c *checker) ([]byte, bool) {
	for mark, order := range map[string]binary.ByteOrder{"\xff\xfe": binary.LittleEndian, "\xfe\xff": binary.BigEndian} {
		if bytes.HasPrefix(data, []byte(mark)) {
			units := make([]uint16, 0, len(data)/2)
			for i := 2; i+1 < len(data); i += 2 {
				units = append(units, order.Uint16(data[i:]))
			}
			data = []byte(string(utf16.Decode(units)))
		}
	}
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 {
			line, column := place(data, i)
			c.add(RuleEncoding, line, column, fmt.Sprintf("The byte 0x%02x is not UTF-8 text", data[i]), "Save the file with the encoding UTF-8.")
			return nil, false
		}
		if !printable(r) {
			line, column := place(data, i)
			c.add(RuleEncoding, line, column, fmt.Sprintf("The character U+%04X is not allowed", r), "Remove it; an editor may not show it.")
			return nil, false
		}
		i += size
	}
	return data, true
}

// lineEnd is what the parser counts as the end of a line.
var lineEnd = regexp.MustCompile(`\r\n|[\r\n\x{85}\x{2028}\x{2029}]`)

// printable is the set of characters that YAML allows in a file.
func printable(r rune) bool {
	return r == '\t' || r == '\n' || r == '\r' || 0x20 <= r && r <= 0x7e || r == 0x85 || 0xa0 <= r && r <= 0xd7ff ||
		0xe000 <= r && r <= 0xfffd || r >= 0x10000
}

// What the parser says, and what a researcher should do about it.
var yamlHints = []struct{ says, message, hint string }{
	{"found character that cannot start any token", "This character cannot start a value", "Indent with spaces, not with tabs. A text that starts with @, ` or % must stand in quotes."},
	{"found a tab character", "A tab is used to indent", "Indent with spaces, not with tabs."},
	{"mapping values are not allowed in this context", "A colon followed by a blank is not allowed here", "Put the whole text in quotes if the colon is part of it; otherwise check the indentation."},
	{"did not find expected key", "A key was expected here", "Check the indentation: entries of one section start in the same column."},
	{"did not find expected '-' indicator", "An entry that starts with `-` was expected here", "Check the indentation: entries of one list start in the same column."},
	{"could not find expected ':'", "A key without a colon", "Write `key: value`."},
	{"found unexpected end of stream", "A quotation is never closed", "Add the missing quote."},
	{"did not find expected ',' or ']'", "A list in brackets is not closed", "Separate its items with commas and close it with `]`."},
	{"did not find expected ',' or '}'", "A dictionary in braces is not closed", "Separate its entries with commas and close it with `}`."},
	{"unknown anchor", "", "Define the anchor with & above the place that uses it, or put a text that starts with * in quotes."},
	{"found unknown escape character", "A back slash in double quotes starts no known escape", "Use single quotes, or write the back slash twice."},
	{"did not find expected alphabetic or numeric character", "A name must follow & or *", "Put a text that starts with & or * in quotes."},
	{"found incompatible YAML document", "The %YAML line names a version that is not 1.1 or 1.2", "Remove the line."},
	{"did not find expected <document start>", "A second document starts here without `---`", "Check the indentation and the brackets above this line."},
}

var yamlPrefix = regexp.MustCompile(`^yaml: (?:(?:line|offset) [0-9]+: )?`)

// yamlProblem is the parser's error in words and with a place. The library's
// own line numbers are sometimes those of the surrounding section, so the file is
// parsed once more from a reader that counts: where the parser stops asking is
// where it gave up.
func yamlProblem(err error, text []byte) (Rule, int, int, string, string) {
	feed := &feeder{text: text}
	_, _ = documents(feed) //nolint:errcheck // the error is err again

	says := yamlPrefix.ReplaceAllString(err.Error(), "")
	message, hint := says, "See https://docs.opensafely.org/project-pipelines/ for how the file is written."
	for _, known := range yamlHints {
		if strings.Contains(says, known.says) {
			hint = known.hint
			if known.message != "" {
				message = known.message + " (" + says + ")"
			}
			break
		}
	}
	line, column := place(text, feed.fault(err.Error()))
	return RuleYAML, line, column, "The file is not valid YAML: " + message, hint
}

// A feeder hands out text a byte at a time and counts.
type feeder struct {
	text []byte
	next int
}

func (f *feeder) Read(p []byte) (int, error) {
	if f.next >= len(f.text) {
		return 0, io.EOF
	}
	p[0] = f.text[f.next]
	f.next++
	return 1, nil
}

// lookahead is how many bytes the parser reads beyond the one it judges.
const lookahead = 4

// fault is the offset of what the parser complains about, near where it
// stopped reading.
func (f *feeder) fault(says string) int {
	end := min(f.next, len(f.text))
	if match := unknownAnchor.FindStringSubmatch(says); match != nil {
		return max(0, bytes.LastIndex(f.text[:end], []byte("*"+match[1])))
	}
	if match := openQuote.FindStringSubmatch(says); match != nil {
		return f.quoteIn(match[1])
	}
	recent := f.text[max(0, end-lookahead-1):end]
	start := end - len(recent)
	switch {
	case strings.Contains(says, "mapping values"):
		if i := bytes.LastIndexByte(recent, ':'); i >= 0 {
			return start + i
		}
	case strings.Contains(says, "tab character"), strings.Contains(says, "cannot start any token"):
		if i := bytes.IndexAny(recent, "\t@`%"); i >= 0 {
			return start + i
		}
	}
	// Elsewhere the parser complains about the word that it has just read.
	seen := bytes.TrimRight(f.text[:max(0, end-1)], " \t\r\n")
	if end == len(f.text) {
		seen = bytes.TrimRight(f.text, " \t\r\n")
	}
	begin := bytes.LastIndexByte(seen, '\n') + 1
	for begin < len(seen) && (seen[begin] == ' ' || seen[begin] == '\t') {
		begin++
	}
	return begin
}

// Faults of which the library tells the place itself.
var (
	unknownAnchor = regexp.MustCompile(`unknown anchor '([^']+)'`)
	openQuote     = regexp.MustCompile(`^yaml: line ([0-9]+): found unexpected end of stream`)
)

// quoteIn is the offset of the first quote in a line, which is the one that is
// never closed, or of the line.
func (f *feeder) quoteIn(number string) int {
	n, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	begin := 0
	if ends := lineEnd.FindAllIndex(f.text, n-1); n > 1 && len(ends) == n-1 {
		begin = ends[n-2][1]
	}
	line, _, _ := bytes.Cut(f.text[begin:], []byte{'\n'})
	return begin + max(0, bytes.IndexAny(line, `"'`))
}

// place is the line and column of an offset, both from 1.
func place(text []byte, offset int) (line, column int) {
	before := text[:min(offset, len(text))]
	begin := 0
	ends := lineEnd.FindAllIndex(before, -1)
	if n := len(ends); n > 0 {
		begin = ends[n-1][1]
	}
	return len(ends) + 1, utf8.RuneCount(before[begin:]) + 1
}
