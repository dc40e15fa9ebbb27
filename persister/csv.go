package persister

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// A table is what the checks want to know of a .csv file.
type table struct {
	rows     int  // without the header and without blank lines
	cols     int  // as the reference counts them: keys of the first row
	patients bool // a column of the header is called patient_id, whatever separates columns
}

// An unreadableError says why a file is not CSV that we can read.
type unreadableError struct{ why string }

func (e *unreadableError) Error() string { return e.why }

func unreadable(format string, args ...any) error {
	return &unreadableError{fmt.Sprintf(format, args...)}
}

// Bounds of what is read as CSV.
const (
	maxField   = 131_072 // characters in a field, as in Python's csv module
	maxColumns = 100_000 // in a header
)

// readCSV reads a file as Python's csv.DictReader does with its default
// dialect, so that rows and columns are counted alike, and looks for patients
// with the separators that it would miss. Memory is bounded whatever the file.
func readCSV(r io.Reader) (table, error) {
	text, err := decode(r)
	if err != nil {
		return table{}, err
	}
	var t table
	names := make(map[string]bool)
	counting := &records{separator: ',', bounded: true, column: func(name []byte) { names[string(name)] = true }}
	header, first := 0, 0 // fields of the header, of the first row
	counting.done = func(fields int) {
		switch {
		case counting.column != nil:
			header, counting.column = fields, nil
		case fields > 0:
			if t.rows++; t.rows == 1 {
				first = fields
			}
		}
	}
	readers := []*records{counting, findPatients(',', &t), findPatients(';', &t), findPatients('\t', &t), findPatients('|', &t)}
	for {
		c, err := text.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return table{}, err
		}
		for _, rec := range readers {
			if rec.off {
				continue
			}
			if err := rec.feed(c); err != nil {
				return table{}, err
			}
		}
	}
	for _, rec := range readers {
		if rec.off {
			continue
		}
		if err := rec.end(); err != nil {
			return table{}, err
		}
	}
	if t.rows > 0 {
		t.cols = len(names)
		if first > header {
			t.cols++ // the reference: all fields beyond the header are one key of the row's dictionary
		}
	}
	return t, nil
}

// findPatients reads the first line that has any columns, and no more. Between
// separators that the reference does not know spaces are no part of a name.
func findPatients(separator rune, t *table) *records {
	rec := &records{separator: separator}
	rec.column = func(name []byte) {
		if separator != ',' {
			name = bytes.TrimSpace(name)
		}
		t.patients = t.patients || isPatientColumn(name)
	}
	rec.done = func(fields int) { rec.off = fields > 0 }
	return rec
}

// records splits a text into records and fields, one character at a time, as
// Python's csv module does: a quote opens a quoted field only at its
// beginning, a doubled one inside stands for itself, what follows a closing
// quote belongs to the field.
type records struct {
	separator rune
	column    func(field []byte) // called with each field, if set
	done      func(fields int)   // a record has ended; a blank line has no fields
	bounded   bool               // a field of more than maxField is an error, else it is cut
	off       bool               // feed no more

	state  int
	field  []byte // kept only for column
	length int    // of the field, in characters
	number int    // fields of this record so far
}

// States of records.
const (
	atRecord   = iota // nothing of the record read
	atField           // nothing of the field read
	inField           // in an unquoted field, or behind a closing quote
	inQuotes          //
	afterQuote        // behind a quote inside quotes: closing, or the first of two
)

func (r *records) feed(c rune) error {
	switch r.state {
	case inQuotes:
		if c == '"' {
			r.state = afterQuote
			return nil
		}
		return r.add(c)
	case afterQuote:
		if c == '"' {
			r.state = inQuotes
			return r.add(c)
		}
		r.state = inField
	case atRecord, atField:
		if c == '"' {
			r.state = inQuotes
			return nil
		}
	}
	switch c {
	case '\n':
		if r.state == atRecord {
			r.finish()
			return nil
		}
		if err := r.endField(); err != nil {
			return err
		}
		r.finish()
	case r.separator:
		r.state = atField
		return r.endField()
	default:
		r.state = inField
		return r.add(c)
	}
	return nil
}

func (r *records) add(c rune) error {
	if r.length++; r.length > maxField && r.bounded {
		return unreadable("a field is longer than %d characters", maxField)
	}
	if r.column != nil && r.length <= maxField {
		r.field = utf8.AppendRune(r.field, c)
	}
	return nil
}

func (r *records) endField() error {
	if r.number++; r.column != nil {
		if r.number > maxColumns {
			return unreadable("it has more than %d columns", maxColumns)
		}
		r.column(r.field)
	}
	r.field, r.length = r.field[:0], 0
	return nil
}

func (r *records) finish() {
	number := r.number
	r.number, r.state = 0, atRecord
	r.done(number)
}

// end ends the last record if the text did not.
func (r *records) end() error {
	if r.state == atRecord {
		return nil
	}
	if err := r.endField(); err != nil {
		return err
	}
	r.finish()
	return nil
}
