package persister

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"sluice/messages"
)

// A Finding is what the checks made of a moderately sensitive file. Its words
// are the reference's (agent/executors/local.py, check_l4_file).
type Finding struct {
	Reason string // empty: allowed; else for the manifest
	Text   string // of the message file that stands in for the file
	Rows   *int   // of a .csv file that could be read
	Cols   *int
}

// Allowed reports whether the file may enter the moderately sensitive tier.
func (f *Finding) Allowed() bool { return f.Reason == "" }

// Inspect checks a file that rules mark as moderately sensitive. The file is
// read once, in pieces; an error is one of reading.
//
// It is stricter than the reference where that lets patients' rows through: a
// patient_id column is found in any letter case, behind a byte order mark,
// between tabs, semicolons or bars and in UTF-16, and a .csv file that cannot be
// read is withheld. A name with spaces around it, between commas, is another
// name, as in the reference; so is one of any other spelling. A column that is
// called something else is for the output checker to see.
func (c Checks) Inspect(p messages.Path, size int64, file io.Reader) (Finding, error) {
	name, suffix := p.String(), suffixOf(string(p))
	switch {
	case size > c.MaxSize:
		return Finding{
			Reason: fmt.Sprintf("File size of %sMb is larger that limit of %sMb.", megabytes(size), megabytes(c.MaxSize)),
			Text:   fmt.Sprintf(tooLargeText, name, megabytes(size), megabytes(c.MaxSize), name),
		}, nil
	case !slices.Contains(c.Types, suffix):
		return Finding{
			Reason: fmt.Sprintf("File type of %s is not valid level 4 file", suffix),
			Text:   fmt.Sprintf(wrongTypeText, name, suffix),
		}, nil
	case suffix == ".csv":
		return c.inspectCSV(name, file)
	}
	return Finding{}, nil
}

func (c Checks) inspectCSV(name string, file io.Reader) (Finding, error) {
	table, err := readCSV(file)
	var bad *unreadableError
	switch {
	case errors.As(err, &bad):
		return Finding{
			Reason: "File could not be read as CSV: " + bad.why,
			Text:   fmt.Sprintf(unreadableText, name, bad.why),
		}, nil
	case err != nil:
		return Finding{}, err
	}
	f := Finding{Rows: &table.rows, Cols: &table.cols}
	var reasons, texts []string
	if table.patients {
		reasons = append(reasons, "File has patient_id column")
		texts = append(texts, fmt.Sprintf(patientText, name))
	}
	if table.rows > c.MaxRows {
		reasons = append(reasons, fmt.Sprintf("File row count (%d) exceeds maximum allowed rows (%d)", table.rows, c.MaxRows))
		texts = append(texts, fmt.Sprintf(tooManyRowsText, name, table.rows, c.MaxRows))
	}
	f.Reason, f.Text = strings.Join(reasons, ","), strings.Join(texts, "\n\n")
	return f, nil
}

// suffixOf returns what Python's PurePath.suffix does: from the last dot of
// the name on, unless that is its first or last byte.
func suffixOf(p string) string {
	name := path.Base(p)
	if i := strings.LastIndexByte(name, '.'); 0 < i && i < len(name)-1 {
		return name[i:]
	}
	return ""
}

// megabytes prints a size as Python prints round(size / 1048576, 2).
func megabytes(size int64) string {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(float64(size)/(1<<20), 'f', 2, 64), 64)
	if err != nil || rounded == math.Trunc(rounded) {
		return strconv.FormatFloat(rounded, 'f', 1, 64)
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

// isPatientColumn reports whether a column's name is patient_id, whatever the
// case of its letters.
func isPatientColumn(name []byte) bool { return bytes.EqualFold(name, []byte("patient_id")) }

// Texts of message files: the reference's, but for the last.
const (
	tooLargeText = `
The file:

%s

was %sMb, which is above the limit for moderately_sensitive files of
%sMb.

As such, it has *not* been copied to Level 4 storage. Please double check that
%s contains only aggregate information, and is an appropriate size to
be able to be output checked.
`
	wrongTypeText = `
The file:

%s

is of type %s. This is not a valid file type for moderately_sensitive files.

Level 4 files should be aggregate information easily viewable by output checkers.

See available list of file types here: https://docs.opensafely.org/requesting-file-release/#allowed-file-types.
`
	patientText = `
The file:

%s

has not been made available in level 4 because it has a ` + "`patient_id`" + ` column.

Patient level data is not allowed by policy in level 4.

You should change this file's privacy to ` + "`highly_sensitive`" + ` in your
project.yaml. Or, if is aggregrate data, you should remove the patient_id
column from your data.

`
	tooManyRowsText = `
The file:

%s

contained %d rows, which is above the limit for moderately_sensitive files of
%d rows.

As such, it has *not* been copied to Level 4 storage. Please contact tech-support for
further assistance.
`
	unreadableText = `
The file:

%s

has not been made available in level 4 because it could not be read as a CSV
file: %s.

A file that cannot be read cannot be checked for patient level data. Please
write it as CSV in UTF-8, or change this file's privacy to
` + "`highly_sensitive`" + ` in your project.yaml.
`
)
