package project

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// config adds the section `config` to an action's command, as one argument in
// JSON, spelled as Python's json.dumps does. Images read it with Python.
func (c *checker) config(d *draft, id string, v *value) {
	var text, clean jsonWriter
	clean.lenient = true
	text.write(v, 0)
	clean.write(v, 0)
	switch {
	case text.full || clean.full:
		c.at(v, RuleConfig, fmt.Sprintf("`config` section for action %s comes to more than %d bytes", id, maxConfigJSON),
			"Put large settings into a file of the study and name that in the run line.")
		return
	case !c.room(v, 2*len(text.text)):
		return
	}
	d.Config = json.RawMessage(clean.text)
	if text.unfit != nil {
		d.unfit = fmt.Sprintf("`config` section for action %s has %s in line %d, which JSON cannot hold: put it in quotes", id, kindNames[text.unfit.kind], text.unfit.line)
		c.warn("%s", d.unfit)
		return
	}
	if len(v.pairs) > 0 {
		d.command = append(d.command, "--config", strings.ReplaceAll(string(text.text), "'", `\u0027`))
	}
}

// A jsonWriter writes values as json.dumps does: a blank after commas and
// colons, ASCII only, numbers as Python prints them.
type jsonWriter struct {
	text    []byte
	lenient bool   // write what JSON has no word for as a string, a list or null
	unfit   *value // the first value that JSON has no word for
	full    bool   // there was no room for all of it
}

func (w *jsonWriter) write(v *value, depth int) {
	if len(w.text) > maxConfigJSON {
		w.full = true
	}
	if w.full {
		return
	}
	switch v.kind {
	case null:
		w.add("null")
	case boolean:
		w.add(strconv.FormatBool(v.yes))
	case integer:
		w.add(v.text)
	case float:
		w.float(v.num)
	case str:
		w.string(v.text)
	case list:
		w.list(v.items, depth)
	case dict:
		w.dict(v, depth)
	case set:
		w.bad(v)
		items := slices.Clone(v.items)
		slices.SortFunc(items, func(a, b *value) int { return strings.Compare(a.String(), b.String()) })
		w.list(items, depth)
	default: // date, blob, tagged
		w.bad(v)
		w.string(v.String())
	}
}

func (w *jsonWriter) add(text string) { w.text = append(w.text, text...) }

func (w *jsonWriter) bad(v *value) {
	if w.unfit == nil {
		w.unfit = v
	}
}

func (w *jsonWriter) list(items []*value, depth int) {
	w.add("[")
	for i, item := range items {
		if i > 0 {
			w.add(", ")
		}
		if w.write(item, depth+1); w.full {
			return
		}
	}
	w.add("]")
}

func (w *jsonWriter) dict(v *value, depth int) {
	w.add("{")
	for i, p := range v.pairs {
		if i > 0 {
			w.add(", ")
		}
		switch p.key.kind {
		case date, blob, tagged:
			w.bad(p.key)
		}
		name := p.key.name()
		if p.key.kind == float && !w.lenient {
			name = jsonFloat(p.key.num)
		}
		w.string(name)
		w.add(": ")
		if w.write(p.value, depth+1); w.full {
			return
		}
	}
	w.add("}")
}

// float writes a number. Python's JSON has words for what JSON has none.
func (w *jsonWriter) float(f float64) {
	if w.lenient && f-f != 0 {
		w.add("null")
		return
	}
	w.add(jsonFloat(f))
}

func jsonFloat(f float64) string {
	switch text := pythonFloat(f); text {
	case "nan":
		return "NaN"
	case "inf":
		return "Infinity"
	case "-inf":
		return "-Infinity"
	default:
		return text
	}
}

func (w *jsonWriter) string(text string) {
	w.add(`"`)
	for _, r := range text {
		if len(w.text) > maxConfigJSON {
			w.full = true
			return
		}
		switch {
		case r == '"' || r == '\\':
			w.text = append(w.text, '\\', byte(r))
		case r == '\n':
			w.add(`\n`)
		case r == '\r':
			w.add(`\r`)
		case r == '\t':
			w.add(`\t`)
		case r == '\b':
			w.add(`\b`)
		case r == '\f':
			w.add(`\f`)
		case ' ' <= r && r <= '~':
			w.text = append(w.text, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			w.text = fmt.Appendf(w.text, `\u%04x\u%04x`, high, low)
		default:
			w.text = fmt.Appendf(w.text, `\u%04x`, r)
		}
	}
	w.add(`"`)
}
