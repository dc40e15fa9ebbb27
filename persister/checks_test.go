package persister

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
)

func utf16Text(order binary.AppendByteOrder, s string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

// Rows of the table of differences: "patient_id check: exact string, .csv
// only" in the reference; here also other case, BOM, tabs, semicolons and bars,
// UTF-16; what cannot be read is withheld.
func TestInspectIsStricter(t *testing.T) {
	t.Parallel()
	const patients, unread = "File has patient_id column", "File could not be read as CSV: "
	for name, tc := range map[string]struct {
		content string
		want    string
	}{
		"exact":                       {"a,patient_id\n", patients},
		"other case":                  {"a,Patient_ID\n1,2\n", patients},
		"BOM":                         {"\ufeffpatient_id,a\n", patients},
		"tabs":                        {"a\tpatient_id\tb\n", patients},
		"semicolons":                  {"a;PATIENT_ID\n", patients},
		"semicolons and quotes":       {"\"a;b\";\"patient_id\"\n", patients},
		"quoted":                      {"\"patient_id\",a\n", patients},
		"behind blank lines":          {"\n\r\n\npatient_id\n1\n", patients},
		"old Mac line ends":           {"patient_id\r1\r", patients},
		"UTF-16, little endian, BOM":  {"\xff\xfe" + utf16Text(binary.LittleEndian, "patient_id,a\n1,2\n"), patients},
		"UTF-16, big endian, BOM":     {"\xfe\xff" + utf16Text(binary.BigEndian, "a\tpatient_id\n"), patients},
		"UTF-16, little endian":       {utf16Text(binary.LittleEndian, "patient_id\n"), patients},
		"UTF-16, big endian":          {utf16Text(binary.BigEndian, "patient_id\n"), patients},
		"UTF-16, harmless":            {"\xff\xfe" + utf16Text(binary.LittleEndian, "a,☃😀\n1,2\n"), ""},
		"spaces around, as upstream":  {" patient_id ,a\n", ""},
		"bars":                        {"a|patient_id\n", patients},
		"bars and spaces":             {"a | Patient_ID | b\n", patients},
		"semicolons and spaces":       {"a; patient_id\n", patients},
		"spaces, nothing else":        {" patient_id \n1\n", patients},
		"bars in a row only":          {"a|b\npatient_id|1\n", ""},
		"in a row only":               {"a\npatient_id\n", ""},
		"empty":                       {"", ""},
		"Latin-1":                     {"na\xefve\n1\n", unread + "it is not UTF-8 text"},
		"bytes in a late row":         {"a\n" + strings.Repeat("1\n", 100_000) + "\xff\n", unread + "it is not UTF-8 text"},
		"UTF-32":                      {"\xff\xfe\x00\x00p\x00\x00\x00", unread + "it is in UTF-32"},
		"half a UTF-16 character":     {"\xff\xfea", unread + "it ends in the middle of a UTF-16 character"},
		"half a surrogate pair":       {"\xff\xfe\x00\xd8", unread + "it is not UTF-16 text"},
		"a lone low surrogate":        {"\xff\xfe\x00\xdcab", unread + "it is not UTF-16 text"},
		"a field at the limit":        {strings.Repeat("x", maxField) + "\n", ""},
		"a field above the limit":     {strings.Repeat("x", maxField+1) + "\n", unread + "a field is longer than 131072 characters"},
		"a long header of semicolons": {strings.Repeat("x,", 60_000) + "y\n", ""},
		"too many columns":            {strings.Repeat(",", maxColumns+1) + "\n", unread + "it has more than 100000 columns"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checks := DefaultChecks()
			checks.MaxRows = 1 << 30
			got, err := checks.Inspect("t.csv", int64(len(tc.content)), iotest.HalfReader(strings.NewReader(tc.content)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Reason != tc.want {
				t.Errorf("got %q, want %q", got.Reason, tc.want)
			}
			if (got.Text == "") != (tc.want == "") || tc.want != "" && !strings.Contains(got.Text, "t.csv") {
				t.Errorf("message: got %q", got.Text)
			}
		})
	}
}

func TestInspectBounds(t *testing.T) {
	t.Parallel()
	checks := DefaultChecks()
	checks.MaxRows = 2
	rows, cols := 3, 1
	got, err := checks.Inspect("o/t.csv", 20, strings.NewReader("patient_id\n1\n2\n3\n"))
	want := Finding{
		Reason: "File has patient_id column,File row count (3) exceeds maximum allowed rows (2)", Rows: &rows, Cols: &cols,
		Text: "\nThe file:\n\no/t.csv\n\nhas not been made available in level 4 because it has a `patient_id` column.\n\n" +
			"Patient level data is not allowed by policy in level 4.\n\nYou should change this file's privacy to `highly_sensitive` in your\nproject.yaml. " +
			"Or, if is aggregrate data, you should remove the patient_id\ncolumn from your data.\n\n\n\n\nThe file:\n\no/t.csv\n\n" +
			"contained 3 rows, which is above the limit for moderately_sensitive files of\n2 rows.\n\nAs such, it has *not* been copied to Level 4 storage. " +
			"Please contact tech-support for\nfurther assistance.\n",
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("two findings, %v (-want +got):\n%s", err, diff)
	}
	got, err = checks.Inspect("o/t.bin", 16<<20+1, nil) // its size is found before anything is read
	if err != nil || got.Reason != "File size of 16.0Mb is larger that limit of 16.0Mb." || !strings.Contains(got.Text, "\nwas 16.0Mb, which is above the limit for moderately_sensitive files of\n16.0Mb.\n") {
		t.Errorf("size: got %+v, %v", got, err)
	}
	broken := errors.New("broken")
	if _, err := checks.Inspect("t.csv", 1, io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("a disk that fails is not an unreadable file: got %v", err)
	}
}

func TestMegabytes(t *testing.T) {
	t.Parallel()
	// Python: str(round(n / 1048576, 2)).
	for size, want := range map[int64]string{0: "0.0", 1: "0.0", 16 << 20: "16.0", 16777217: "16.0", 17301504: "16.5", 20447232: "19.5", 17616076: "16.8", 17000000: "16.21", 1 << 40: "1048576.0"} {
		if got := megabytes(size); got != want {
			t.Errorf("megabytes(%d): got %s, want %s", size, got, want)
		}
	}
}

func TestSuffix(t *testing.T) {
	t.Parallel()
	// Python 3.12: PurePath(p).suffix.
	for p, want := range map[string]string{"a.csv": ".csv", "d.x/a": "", "d/.csv": "", "a.": "", "...csv": ".csv", "a.tar.gz": ".gz", "a.CSV": ".CSV", "..csv": ".csv"} {
		if got := suffixOf(p); got != want {
			t.Errorf("suffixOf(%q): got %q, want %q", p, got, want)
		}
	}
}

// Whatever the bytes, reading them ends, counts no more than there is, and is
// the same however they come in.
func FuzzReadCSV(f *testing.F) {
	for _, seed := range []string{"a,b\n1,2\n", "\"a\"\"b\",c\r\n\"x\ny\",2", "\xff\xfea\x00\n\x00", "\ufeffpatient_id;x\n", "\"open", "a\n\n\nb\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readCSV(bytes.NewReader(data))
		again, errAgain := readCSV(iotest.OneByteReader(bytes.NewReader(data)))
		if got != again || (err == nil) != (errAgain == nil) {
			t.Errorf("read at once: %+v, %v; byte by byte: %+v, %v", got, err, again, errAgain)
		}
		if got.rows > len(data) || got.cols > len(data)+2 {
			t.Errorf("%d bytes have %d rows and %d columns", len(data), got.rows, got.cols)
		}
		if err == nil && !got.patients && bytes.HasPrefix(bytes.ToLower(data), []byte("patient_id,")) {
			t.Error("a patient_id column was missed")
		}
		finding, err := DefaultChecks().Inspect(messages.Path("x.csv"), int64(len(data)), bytes.NewReader(data))
		if err != nil || finding.Allowed() != (finding.Text == "") {
			t.Errorf("Inspect: got %+v, %v", finding, err)
		}
	})
}
