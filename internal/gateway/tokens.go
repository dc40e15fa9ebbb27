package gateway

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"slices"
	"strings"

	"sluice/messages"
)

// tokenVariable ends the names of the variables that hold a backend's tokens,
// as the reference has them: TPP_CLIENT_TOKENS=first,second.
const tokenVariable = "_CLIENT_TOKENS"

// minToken is the length below which a token can be guessed by trying.
const minToken = 16

// Tokens say which backends whoever knows a token may use.
type Tokens struct {
	list []token
	Weak int // tokens that are shorter than 16 bytes
}

type token struct {
	sum      [sha256.Size]byte
	backends []string
}

// add lets a token use a backend.
func (t *Tokens) add(text, backend string) {
	sum := sha256.Sum256([]byte(text))
	for i := range t.list {
		if t.list[i].sum == sum {
			if !slices.Contains(t.list[i].backends, backend) {
				t.list[i].backends = append(t.list[i].backends, backend)
			}
			return
		}
	}
	if len(text) < minToken {
		t.Weak++
	}
	t.list = append(t.list, token{sum: sum, backends: []string{backend}})
}

// Backends returns what the token in an Authorization header may use, in the
// order of configuration; nil for a token that nobody has. How long it takes
// tells nothing about the tokens: all are compared, by digests.
func (t *Tokens) Backends(header string) []string {
	text, _ := strings.CutPrefix(header, "Bearer ") // as the reference's description says, and its server does not
	sum := sha256.Sum256([]byte(text))
	var found []string
	for i := range t.list {
		if subtle.ConstantTimeCompare(sum[:], t.list[i].sum[:]) == 1 {
			found = t.list[i].backends
		}
	}
	return found
}

// Len returns how many tokens there are.
func (t *Tokens) Len() int { return len(t.list) }

// Variable returns the name of the variable that holds a backend's tokens.
func Variable(backend string) string {
	return strings.ToUpper(strings.ReplaceAll(backend, "-", "_")) + tokenVariable
}

// ParseTokens reads the tokens of backends: from the environment, by lookup, and
// from the text of a file with the same names, a line each. A file may name only
// these backends.
func ParseTokens(backends []string, lookup func(string) string, file string) (*Tokens, error) {
	t := &Tokens{}
	of := map[string]string{}
	take := func(variable, value string) error {
		for text := range strings.SplitSeq(value, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
				return fmt.Errorf("%s has a token with a character that an HTTP header cannot carry", variable)
			}
			t.add(text, of[variable])
		}
		return nil
	}
	for _, backend := range backends {
		if err := messages.CheckBackend(backend); err != nil {
			return nil, err
		}
		of[Variable(backend)] = backend
		if err := take(Variable(backend), lookup(Variable(backend))); err != nil {
			return nil, err
		}
	}
	n := 0
	for line := range strings.SplitSeq(file, "\n") {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		variable, value, ok := strings.Cut(line, "=")
		variable = strings.TrimSpace(variable)
		if !ok || of[variable] == "" {
			return nil, fmt.Errorf("line %d of the tokens' file is not BACKEND%s=token,… of one of the backends %s", n, tokenVariable, strings.Join(backends, ", "))
		}
		if err := take(variable, strings.Trim(strings.TrimSpace(value), `"'`)); err != nil {
			return nil, err
		}
	}
	return t, nil
}
