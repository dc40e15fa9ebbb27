package messages

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Path is a file's path inside a workspace, slash-separated, as the action
// wrote it: any bytes but NUL. In JSON it is a string, or {"base64": …} where
// it is not UTF-8.
type Path string

type rawPath struct {
	Bytes []byte `json:"base64"`
}

// MarshalJSON writes the path so that UnmarshalJSON gives the same bytes back.
func (p Path) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(p)) {
		return json.Marshal(string(p))
	}
	return json.Marshal(rawPath{[]byte(p)})
}

// UnmarshalJSON reads either form.
func (p *Path) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*p = Path(s)
		return nil
	}
	var raw rawPath
	if err := json.Unmarshal(data, &raw); err != nil {
		return fmt.Errorf("a path is a string or {\"base64\": …}")
	}
	*p = Path(raw.Bytes)
	return nil
}

// MaxPath bounds a path, in bytes (Linux's PATH_MAX).
const MaxPath = 4096

// Check reports why p cannot be the path of a file beneath a workspace.
func (p Path) Check() error {
	if p == "" || len(p) > MaxPath {
		return fmt.Errorf("a path of %d bytes is out of bounds", len(p))
	}
	for part := range strings.SplitSeq(string(p), "/") {
		if part == "" || part == "." || part == ".." || strings.Contains(part, "\x00") || len(part) > 255 {
			return fmt.Errorf("path %s is not that of a file beneath the workspace", p)
		}
	}
	return nil
}

// String returns the path fit for a terminal or a log: quoted if it holds
// anything but printable characters.
func (p Path) String() string {
	for _, r := range string(p) {
		if r == utf8.RuneError || r < ' ' || r == 0x7f || !isPrint(r) {
			return fmt.Sprintf("%q", string(p))
		}
	}
	return string(p)
}

// isPrint leaves out what can re-order or hide text on a terminal.
func isPrint(r rune) bool {
	quoted := fmt.Sprintf("%q", r)
	return !strings.HasPrefix(quoted, `'\`) || r == '\'' || r == '\\'
}
