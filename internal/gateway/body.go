package gateway

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A body is a JSON object of a request, checked in the reference's order: what is
// missing first, then what is wrong. It keeps the first fault, in the reference's
// sentence.
type body struct {
	fields map[string]any
	fault  string
}

// Faults of a body as a whole.
const notJSON = "could not parse JSON from request body"

// parseBody reads one JSON object and nothing behind it.
func parseBody(data []byte, required ...string) *body {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var value any
	if err := dec.Decode(&value); err != nil {
		return &body{fault: notJSON}
	}
	if _, err := dec.Token(); err != io.EOF { //nolint:errorlint // Token returns it bare
		return &body{fault: notJSON}
	}
	b := &body{}
	var ok bool
	if b.fields, ok = value.(map[string]any); !ok {
		b.fail("", "%s is not of type 'object'", show(value))
		return b
	}
	for _, field := range required {
		if _, ok := b.fields[field]; !ok {
			b.fail("", "'%s' is a required property", field)
		}
	}
	return b
}

// fail notes a fault, if it is the first.
func (b *body) fail(path, format string, args ...any) {
	if b.fault != "" {
		return
	}
	b.fault = "Invalid request body received"
	if path != "" {
		b.fault += " at $." + path
	}
	b.fault += ": " + fmt.Sprintf(format, args...)
}

// text returns a string.
func (b *body) text(field string) string {
	s, ok := b.fields[field].(string)
	if !ok {
		b.fail(field, "%s is not of type 'string'", show(b.fields[field]))
	}
	return s
}

// matching returns a string that has a form.
func (b *body) matching(field, form string, ok func(string) bool) string {
	s := b.text(field)
	if !ok(s) {
		b.fail(field, "%s does not match '%s'", show(s), form)
	}
	return s
}

// oneOf returns a string of a closed list.
func (b *body) oneOf(field string, list ...string) string {
	s := b.text(field)
	if !slices.Contains(list, s) {
		b.fail(field, "%s is not one of %s", show(s), showAll(list))
	}
	return s
}

// truth returns a boolean.
func (b *body) truth(field string) bool {
	v, ok := b.fields[field].(bool)
	if !ok {
		b.fail(field, "%s is not of type 'boolean'", show(b.fields[field]))
	}
	return v
}

// texts returns a list of strings, of a closed list if one is given.
func (b *body) texts(field string, least int, allowed ...string) []string {
	values, ok := b.fields[field].([]any)
	if !ok {
		b.fail(field, "%s is not of type 'array'", show(b.fields[field]))
		return nil
	}
	if len(values) < least {
		b.fail(field, "[] should be non-empty")
	}
	list := make([]string, 0, len(values))
	for i, v := range values {
		s, ok := v.(string)
		switch {
		case !ok:
			b.fail(fmt.Sprintf("%s[%d]", field, i), "%s is not of type 'string'", show(v))
		case len(allowed) > 0 && !slices.Contains(allowed, s):
			b.fail(fmt.Sprintf("%s[%d]", field, i), "%s is not one of %s", show(s), showAll(allowed))
		}
		list = append(list, s)
	}
	return list
}

// object returns an object inside, or nil if there is none.
func (b *body) object(field string) *body {
	value, there := b.fields[field]
	if !there {
		return nil
	}
	fields, ok := value.(map[string]any)
	if !ok {
		b.fail(field, "%s is not of type 'object'", show(value))
	}
	return &body{fields: fields}
}

// show prints a value of a body shortly, as the reference does.
func show(value any) string {
	switch v := value.(type) {
	case nil:
		return "None"
	case bool:
		return map[bool]string{true: "True", false: "False"}[v]
	case string:
		return "'" + cut(v) + "'"
	}
	data, _ := json.Marshal(value) // it came from JSON
	return cut(string(data))
}

func showAll(list []string) string { return "['" + strings.Join(list, "', '") + "']" }

// cut bounds what an answer repeats of a request.
func cut(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
