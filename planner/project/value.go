package project

import (
	"math"
	"strconv"
	"strings"
)

// A value is one value of the file, with the meaning YAML gives it and the
// place where it is written.
type value struct {
	kind         kind
	text         string   // str, blob; integer: its decimal digits; date: as written
	num          float64  // float
	yes          bool     // boolean
	items        []*value // list, set
	pairs        []pair   // dict, in the file's order
	line, column int      // from 1
}

// A pair is a key of a dictionary and its value.
type pair struct{ key, value *value }

type kind uint8

const (
	null kind = iota
	boolean
	integer
	float
	str
	date
	blob
	list
	dict
	set
	tagged // a single value with a tag of the file's own: no string, no number
)

// kindNames say what a value is, to somebody who expected something else.
var kindNames = map[kind]string{
	null: "empty", boolean: "true or false", integer: "a number", float: "a number", str: "text",
	date: "a date", blob: "binary data", list: "a list", dict: "a dictionary", set: "a set", tagged: "a value with a tag",
}

// get returns the value of a key that is a string, or nil.
func (v *value) get(key string) *value {
	for _, p := range v.pairs {
		if p.key.kind == str && p.key.text == key {
			return p.value
		}
	}
	return nil
}

// absent reports whether v is missing or written as nothing.
func (v *value) absent() bool { return v == nil || v.kind == null }

// String is Python's str(v) for the values that a key may have; the sentences
// of this package show keys so.
func (v *value) String() string {
	switch v.kind {
	case null:
		return "None"
	case boolean:
		if v.yes {
			return "True"
		}
		return "False"
	case float:
		return pythonFloat(v.num)
	}
	return v.text
}

// name is the key as JSON spells it.
func (v *value) name() string {
	switch v.kind {
	case null:
		return "null"
	case boolean:
		return strconv.FormatBool(v.yes)
	}
	return v.String()
}

// identity tells keys apart as Python does, for which 1, 1.0 and true are the
// same key, and "1" is another.
func (v *value) identity() string {
	switch v.kind {
	case str, blob, date, tagged:
		return strconv.Itoa(int(v.kind)) + ":" + v.text
	case boolean:
		if v.yes {
			return "number:1"
		}
		return "number:0"
	case integer:
		return "number:" + v.text
	case float:
		return "number:" + strings.TrimSuffix(strconv.FormatFloat(v.num, 'f', -1, 64), ".0")
	}
	return "none"
}

// float is Python's float(v).
func (v *value) float() (float64, bool) {
	switch v.kind {
	case boolean:
		if v.yes {
			return 1, true
		}
		return 0, true
	case float:
		return v.num, true
	case integer, str, blob:
		return parsePythonFloat(v.text)
	}
	return 0, false
}

// int is Python's int(v), as decimal digits.
func (v *value) int() (string, bool) {
	switch v.kind {
	case boolean:
		if v.yes {
			return "1", true
		}
		return "0", true
	case float:
		if v.num-v.num != 0 { // nan, inf
			return "", false
		}
		return strconv.FormatFloat(math.Trunc(v.num), 'f', 0, 64), true
	case integer:
		return v.text, true
	case str, blob:
		return parsePythonInt(v.text)
	}
	return "", false
}
