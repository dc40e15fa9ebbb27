package persister

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"sluice/messages"
)

// Each level of a manifest is indented by so much.
const (
	indent      = "  "
	entryIndent = indent + indent // of an output's entry
)

// Encode returns the manifest as JSON, the same for the same contents. It is what
// an encoder would write that indents, but only entries without a text are
// encoded. All get theirs, those that other manifests share, too: nothing else may
// use any of these meanwhile.
func (m *Manifest) Encode() ([]byte, error) {
	fields := map[string]any{"repo": nil}
	for name, value := range m.extra {
		fields[name] = value
	}
	fields["workspace"], fields["outputs"] = m.Workspace, nil
	t := &manifestText{}
	before := "{"
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		t.buf.WriteString(before + "\n" + indent)
		t.value(name, indent)
		t.buf.WriteString(": ")
		if name == "outputs" {
			t.outputs(m)
		} else {
			t.value(fields[name], indent)
		}
		before = ","
	}
	t.buf.WriteString("\n}\n")
	if t.err != nil {
		return nil, fmt.Errorf("write manifest: %w", t.err)
	}
	data := t.buf.Bytes()
	for _, at := range t.entries { // so that no entry keeps a text of its own
		at.entry.text = data[at.from:at.to:at.to]
	}
	return data, nil
}

// A manifestText is a manifest that is being written.
type manifestText struct {
	buf     bytes.Buffer
	entries []entryAt
	err     error // the first
}

// An entryAt is where an entry's text lies.
type entryAt struct {
	entry    *ManifestEntry
	from, to int
}

// value writes anything but the outputs.
func (t *manifestText) value(v any, prefix string) {
	data, err := encodeIndented(v, prefix)
	if t.err == nil {
		t.err = err
	}
	t.buf.Write(data)
}

// outputs writes all entries, sorted by their keys.
func (t *manifestText) outputs(m *Manifest) {
	paths := make(map[string]messages.Path, len(m.Outputs))
	size := 64
	for p, e := range m.Outputs {
		key := manifestKey(p)
		paths[key] = p
		size += len(key) + len(",    \"\": \n") + len(e.text)
		if e.text == nil {
			size += 768 // most have less; a hint
		}
	}
	t.buf.Grow(size)
	t.entries = make([]entryAt, 0, len(m.Outputs))
	before := "{"
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		t.buf.WriteString(before + "\n" + entryIndent)
		if plainASCII(key) {
			t.buf.WriteString(`"` + key + `"`)
		} else {
			t.value(key, entryIndent)
		}
		t.buf.WriteString(": ")
		e := m.Outputs[paths[key]]
		text := e.text
		if text == nil {
			var err error
			if text, err = e.encode(); err != nil && t.err == nil {
				t.err = err
			}
		}
		from := t.buf.Len()
		t.buf.Write(text)
		t.entries = append(t.entries, entryAt{e, from, t.buf.Len()})
		before = ","
	}
	if len(paths) == 0 {
		t.buf.WriteString("{}")
		return
	}
	t.buf.WriteString("\n" + indent + "}")
}

// encode returns an entry's text.
func (e *ManifestEntry) encode() ([]byte, error) {
	if len(e.extra) > 0 {
		return encodeIndented(e, entryIndent)
	}
	return encodeIndented((*plainEntry)(e), entryIndent) // the same text, in a third of the time
}

// encodePlain encodes a value in one line.
func encodePlain(v any) ([]byte, error) { return encodeLines(v, "", "") }

// encodeIndented encodes a value whose further lines begin with a prefix.
func encodeIndented(v any, prefix string) ([]byte, error) { return encodeLines(v, prefix, indent) }

func encodeLines(v any, prefix, indent string) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent(prefix, indent) // none, if both are empty
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// plainASCII reports whether JSON has a text as it is.
func plainASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
