package project

import (
	"bytes"
	"errors"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Studies are written against libyaml 0.2. The parser here comes from an older
// libyaml, and three differences matter. Every other input that was tried, some
// hundred thousand broken files, is judged alike.
var (
	// It knows only %YAML 1.1; what 1.2 changed is in scalar.go, not in it.
	directive = regexp.MustCompile(`\A((?:[ \t]*(?:#[^\n]*)?\r?\n|%[^\n]*\n)*%YAML[ \t]+)1\.2\b`)
	// It ends a word at a question mark between brackets or braces: [http://x?y].
	innerQuestion = regexp.MustCompile(`([^\s,\[\]{}?])\?`)
	// It takes a tab before a comment for a blank.
	tabComment = regexp.MustCompile(`(?m)^( *\t[ \t]*)#`)
)

// question stands for a question mark while the parser runs. Unicode says that
// it never means anything, and files that have it are read without the change.
const question = "\uf8ff"

// parseYAML parses text as libyaml does. It also returns the text that was
// parsed, which has the same lines and columns.
func parseYAML(text []byte) ([]*yaml.Node, []byte, error) {
	text = directive.ReplaceAll(text, []byte("${1}1.1"))
	nodes, err := documents(bytes.NewReader(text))
	if err != nil && innerQuestion.Match(text) && !bytes.Contains(text, []byte(question)) {
		other := innerQuestion.ReplaceAll(text, []byte("${1}"+question))
		if again, err := documents(bytes.NewReader(other)); err == nil {
			restoreQuestions(again)
			return again, text, nil
		}
	}
	if err == nil && tabComment.Match(text) {
		// As a word, what follows the tab is refused where a tab must not be.
		other := tabComment.ReplaceAll(text, []byte("${1}x"))
		if _, refused := documents(bytes.NewReader(other)); refused != nil && strings.Contains(refused.Error(), "cannot start any token") {
			return nil, other, errors.New("found character that cannot start any token")
		}
	}
	return nodes, text, err
}

// restoreQuestions puts the question marks back. Aliases share their nodes, so
// every node is in the tree once.
func restoreQuestions(roots []*yaml.Node) {
	nodes := slices.Clone(roots)
	for len(nodes) > 0 {
		n := nodes[len(nodes)-1]
		nodes = append(nodes[:len(nodes)-1], n.Content...)
		n.Value = strings.ReplaceAll(n.Value, question, "?")
	}
}
