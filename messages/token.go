package messages

import (
	"fmt"
	"strings"
)

const upperHex = "0123456789ABCDEF"

// Token returns s as one subject token or key token, reversibly: letters,
// digits, dash and underscore stand for themselves, any other byte becomes
// "=XX" in upper-case hexadecimal, and the empty string becomes "=".
func Token(s string) string {
	if s == "" {
		return "="
	}
	if allOf(s, isWordByte) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if isWordByte(s[i]) {
			b.WriteByte(s[i])
			continue
		}
		b.WriteByte('=')
		b.WriteByte(upperHex[s[i]>>4])
		b.WriteByte(upperHex[s[i]&15])
	}
	return b.String()
}

// ParseToken undoes Token. It refuses what Token does not write, so that one
// name has one token.
func ParseToken(token string) (string, error) {
	if token == "=" {
		return "", nil
	}
	if token == "" {
		return "", fmt.Errorf("empty token")
	}
	var b strings.Builder
	for i := 0; i < len(token); i++ {
		switch c := token[i]; {
		case isWordByte(c):
			b.WriteByte(c)
		case c == '=' && i+2 < len(token):
			high, low := strings.IndexByte(upperHex, token[i+1]), strings.IndexByte(upperHex, token[i+2])
			if high < 0 || low < 0 || isWordByte(byte(high<<4|low)) {
				return "", fmt.Errorf("token %s is not escaped as it should be", Quote(token))
			}
			b.WriteByte(byte(high<<4 | low))
			i += 2
		default:
			return "", fmt.Errorf("token %s is not escaped as it should be", Quote(token))
		}
	}
	return b.String(), nil
}
