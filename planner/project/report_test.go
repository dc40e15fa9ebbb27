package project_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/planner/project"
)

// TestReportJSON: the exact object that sluice check --json prints.
func TestReportJSON(t *testing.T) {
	t.Parallel()

	for _, tc := range []struct{ name, file, want string }{
		{"valid", "version: 4\nactions:\n  b:\n    run: python:v2 <a>.py\n    config: {n: .nan}\n    outputs:\n      moderately_sensitive: {t: a.csv, 1: b.csv}\n      highly_sensitive: {}\n  a:\n    run: r:latest a.R\n    needs: [b]\n    outputs: {highly_sensitive: {t: c.csv}}\n",
			`{"valid":true,"errors":[],"warnings":["ProjectWarning: Your project file is using an old version (4.0); consider updating to version 5"],"version":4.0,` +
				`"actions":{"b":{"image":"python:v2","args":["\u003ca\u003e.py"],"run_command":"python:v2 '\u003ca\u003e.py' --config '{\"n\": NaN}'","needs":[],"outputs":{"highly_sensitive":{},"moderately_sensitive":{"t":"a.csv","1":"b.csv"}},"is_database_action":false,"config":{"n":null}},` +
				`"a":{"image":"r:latest","args":["a.R"],"run_command":"r:latest a.R","needs":["b"],"outputs":{"highly_sensitive":{"t":"c.csv"}},"is_database_action":false}},` +
				`"all_actions":["b","a"],"levels":[["b"],["a"]],"order":["b","a"],"job_creation_order":["b","a"],"action_images":["python:v2","r:v1"]}`},
		{"not valid", "version: 6\nactions: {}\n",
			`{"valid":false,"errors":[{"message":"The latest version is v5, but got v6.0","hint":"Write ` + "`version: 5`" + `.","rule":"future-version","line":1,"column":10}],"warnings":[],"version":null,"actions":{},"all_actions":[],"levels":[],"order":[],"job_creation_order":[],"action_images":[]}`},
		{"no number", "version: .nan\nactions: {}\n",
			`{"valid":true,"errors":[],"warnings":["ProjectWarning: Your project file is using an old version (nan); consider updating to version 5"],"version":"nan","actions":{},"all_actions":[],"levels":[],"order":[],"job_creation_order":[],"action_images":[]}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()

			got, err := json.Marshal(project.Check("project.yaml", []byte(tc.file)))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("report mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

// TestPlaces: lines and columns are those an editor shows, whatever ends the
// lines, and the caret stands below them.
func TestPlaces(t *testing.T) {
	t.Parallel()

	const file = "version: 5\n# é ü\nactions: {ä: {run: 'p:v1', outputs: {highly_sensitive: {t: é//x.csv}}}}\n"
	const text = "f:3:60: Output path é//x.csv is invalid: is not in standard form (contains double slashes or '..' elements)\n" +
		"    3 | actions: {ä: {run: 'p:v1', outputs: {highly_sensitive: {t: é//x.csv}}}}\n" +
		"      |                                                            ^\n" +
		"  hint: Write `é/x.csv`.\n\nf: invalid: 1 problem\n"
	for name, data := range map[string]string{
		"line feeds": file, "Windows": strings.ReplaceAll(file, "\n", "\r\n"), "old Mac": strings.ReplaceAll(file, "\n", "\r"),
		"byte order mark": "\ufeff" + file, "UTF-16": "\xff\xfe" + utf16LE(file),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()

			if diff := cmp.Diff(text, project.Check("f", []byte(data)).Text()); diff != "" {
				t.Errorf("text mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

func utf16LE(text string) string {
	var out strings.Builder
	for _, r := range text {
		out.WriteByte(byte(r))
		out.WriteByte(byte(r >> 8))
	}
	return out.String()
}

// TestTextIsSafe: neither the file nor its name can steer the terminal, and a
// line as long as a book is cut around the fault.
func TestTextIsSafe(t *testing.T) {
	t.Parallel()

	long := strings.Repeat("x", 5000)
	file := "version: 5\nactions:\n  \"a\\e[31m\\u202e\\n\": {run: 'p:v1 " + long + "', outputs: {highly_sensitive: {t: b//c.csv}}, y: 1}\n"
	got := project.Check("a\x1b[2J\nb", []byte(file)).Text()
	for _, bad := range []string{"\x1b", "\u202e", long[:200]} {
		if strings.Contains(got, bad) {
			t.Errorf("the text has %q:\n%s", bad, got)
		}
	}
	for _, want := range []string{`a\x1b[2J\x0ab:3:`, `a\x1b[31m\u202e`, "b//c.csv"} {
		if !strings.Contains(got, want) {
			t.Errorf("the text lacks %q:\n%s", want, got)
		}
	}
}
