package project

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
	"time"
)

// How YAML 1.2 reads a plain word, as the reference's parser has it: yes, no,
// on and off are strings; 010 is ten; 1_000 is a number; 12:30 is a string.
var (
	boolWord  = regexp.MustCompile(`^(?:true|True|TRUE|false|False|FALSE)$`)
	floatNum  = regexp.MustCompile(`^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.[0-9_]+(?:[eE][-+][0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$`)
	intNum    = regexp.MustCompile(`^(?:[-+]?0b[01_]+|[-+]?0o?[0-7_]+|[-+]?[0-9_]+|[-+]?0x[0-9a-fA-F_]+)$`)
	nullWord  = regexp.MustCompile(`^(?:~|null|Null|NULL|)$`)
	timestamp = regexp.MustCompile(`^([0-9]{4}-[0-9]{2}-[0-9]{2}|([0-9]{4}-[0-9][0-9]?-[0-9][0-9]?)(?:[Tt]|[ \t]+)([0-9][0-9]?:[0-9]{2}:[0-9]{2})(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9][0-9]?(?::[0-9]{2})?))?)$`)
)

const tagPrefix = "!!"

// plainTag is the type that a plain word without a tag has.
func plainTag(text string) string {
	if text == "" {
		return "null"
	}
	if strings.IndexByte("-+.0123456789", text[0]) >= 0 {
		switch {
		case floatNum.MatchString(text):
			return "float"
		case text[0] != '.' && intNum.MatchString(text):
			return "int"
		case timestamp.MatchString(text):
			return "timestamp"
		}
		return "str"
	}
	switch {
	case boolWord.MatchString(text):
		return "bool"
	case nullWord.MatchString(text):
		return "null"
	}
	return "str"
}

// scalarOf reads text as the type that tag names. The error is a part of a
// sentence: "is not …".
func scalarOf(tag, text string) (*value, error) {
	switch tag {
	case "str":
		return &value{kind: str, text: text}, nil
	case "null":
		return &value{kind: null}, nil
	case "bool":
		return boolOf(text)
	case "int":
		return intOf(text)
	case "float":
		return floatOf(text)
	case "timestamp":
		return dateOf(text)
	case "binary":
		data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), ""))
		if err != nil {
			return nil, fmt.Errorf("is not base64")
		}
		return &value{kind: blob, text: string(data)}, nil
	case "map", "seq", "set", "omap", "pairs":
		return nil, fmt.Errorf("is marked as a collection (!!%s), but is a single value", tag)
	}
	return &value{kind: tagged, text: text}, nil
}

func boolOf(text string) (*value, error) {
	switch strings.ToLower(text) {
	case "true", "yes", "y", "on":
		return &value{kind: boolean, yes: true}, nil
	case "false", "no", "n", "off":
		return &value{kind: boolean}, nil
	}
	return nil, fmt.Errorf("is not true or false")
}

func intOf(text string) (*value, error) {
	digits := strings.ReplaceAll(text, "_", "")
	negative := strings.HasPrefix(digits, "-")
	if strings.HasPrefix(digits, "-") || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	base := 10
	for prefix, b := range map[string]int{"0b": 2, "0o": 8, "0x": 16} {
		if strings.HasPrefix(digits, prefix) {
			digits, base = digits[2:], b
		}
	}
	n, ok := new(big.Int), false
	if digits != "" && len(digits) <= maxDigits && digits[0] != '-' && digits[0] != '+' {
		_, ok = n.SetString(digits, base)
	}
	if !ok {
		return nil, fmt.Errorf("is not a whole number that can be read")
	}
	if negative {
		n.Neg(n)
	}
	return &value{kind: integer, text: n.String()}, nil
}

func floatOf(text string) (*value, error) {
	digits := strings.ToLower(strings.ReplaceAll(text, "_", ""))
	sign := 1.0
	if strings.HasPrefix(digits, "-") {
		sign = -1
	}
	if strings.HasPrefix(digits, "-") || strings.HasPrefix(digits, "+") {
		digits = digits[1:]
	}
	switch digits {
	case ".inf":
		return &value{kind: float, num: sign * math.Inf(1)}, nil
	case ".nan":
		return &value{kind: float, num: math.NaN()}, nil
	}
	f, ok := parsePythonFloat(digits)
	if !ok {
		return nil, fmt.Errorf("is not a number that can be read")
	}
	return &value{kind: float, num: sign * f}, nil
}

func dateOf(text string) (*value, error) {
	match := timestamp.FindStringSubmatch(text)
	if match == nil {
		return nil, fmt.Errorf("is not a date that can be read")
	}
	layout, moment := "2006-1-2", match[1]
	if match[2] != "" {
		layout, moment = "2006-1-2 15:4:5", match[2]+" "+match[3]
	}
	if _, err := time.Parse(layout, moment); err != nil || strings.HasPrefix(text, "0000") {
		return nil, fmt.Errorf("is not a day that exists (write it in quotes if it is no date)")
	}
	return &value{kind: date, text: text}, nil
}
