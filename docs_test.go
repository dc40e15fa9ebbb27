package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/internal/needs"
)

// TestOpensafely keeps docs/opensafely.md honest: each test that it names is
// there, each row has a verdict, what is said to be the same has a test, and
// each fact about the reference has a row.
func TestOpensafely(t *testing.T) {
	text, err := os.ReadFile("docs/opensafely.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`").FindAllStringSubmatch(string(text), -1) {
		if !hasTest(t, m[1], m[2]) {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
	}
	for _, m := range regexp.MustCompile("`e2e/(\\w+\\.txtar)`").FindAllStringSubmatch(string(text), -1) {
		if _, err := os.Stat(filepath.Join("e2e", "testdata", m[1])); err != nil {
			t.Errorf("there is no e2e/testdata/%s", m[1])
		}
	}
	rows := map[string][]string{} // by section
	section := ""
	for line := range strings.SplitSeq(string(text), "\n") {
		if s, ok := strings.CutPrefix(line, "## "); ok {
			section, _, _ = strings.Cut(s, ".")
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if !strings.HasPrefix(line, "| ") || section == "Different on purpose" || cells[0] == "fact" || strings.HasPrefix(cells[0], "---") || cells[0] == "here" {
			continue
		}
		rows[section] = append(rows[section], cells[0])
		switch {
		case len(cells) != 3 || !slices.Contains([]string{"same", "better", "not needed"}, cells[1]):
			t.Errorf("section %s: %s has no verdict, or not three cells", section, cells[0])
		case cells[1] == "same" && !strings.Contains(cells[2], "Test") && !strings.Contains(cells[2], ".txtar"):
			t.Errorf("section %s: %s is said to be the same, and no test is named", section, cells[0])
		}
	}
	for section, names := range readFacts(t) {
		for _, name := range names {
			if !slices.Contains(rows[section], name) {
				t.Errorf("section %s: no row for %q", section, name)
			}
		}
	}
}

// hasTest reports whether a package has a test, in any of its files.
func hasTest(t *testing.T, pkg, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), "\nfunc "+name+"(t *testing.T)") {
			return true
		}
	}
	return false
}

// readFacts returns the names of the facts about the reference, by section. They
// lie beside the conformance cases, and are not part of this repository.
func readFacts(t *testing.T) map[string][]string {
	t.Helper()
	f, err := os.Open(filepath.Join(needs.CaseDir(t), "..", "design", "facts-opensafely.md"))
	if err != nil {
		needs.Missing(t, "rows are not compared with the facts about the reference: %v", err)
	}
	defer f.Close()
	facts := map[string][]string{}
	section, n := "", 0
	named, numbered := regexp.MustCompile(`^- \*\*([^*]+)\*\*`), regexp.MustCompile(`^(\d+)\. `)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if s, ok := strings.CutPrefix(line, "## "); ok {
			section, _, _ = strings.Cut(s, ".")
			n = 0
		}
		switch m := named.FindStringSubmatch(line); {
		case m != nil:
			facts[section] = append(facts[section], m[1])
		case section == "15" && strings.HasPrefix(line, "- "):
			n++
			facts[section] = append(facts[section], fmt.Sprintf("15.%d", n))
		case section == "Known pains" && numbered.MatchString(line):
			facts[section] = append(facts[section], numbered.FindStringSubmatch(line)[1])
		}
	}
	if err := lines.Err(); err != nil || len(facts) < 16 {
		t.Fatalf("%d sections of facts, %v", len(facts), err)
	}
	return facts
}

// TestMovingVariables: each variable of ours that docs/moving.md names is one
// that a command reads, and each test that it names is there.
func TestMovingVariables(t *testing.T) {
	text, err := os.ReadFile("docs/moving.md")
	if err != nil {
		t.Fatal(err)
	}
	sources, err := filepath.Glob("internal/cli/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("no sources of the command line: %v", err)
	}
	var code strings.Builder
	for _, file := range sources {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		code.Write(data)
	}
	_, ours, _ := strings.Cut(string(text), "Theirs that mean the same here:")
	same, rest, _ := strings.Cut(ours, "Theirs that became something else:")
	var names []string
	for line := range strings.SplitSeq(same, "\n") {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " | ")
		names = append(names, regexp.MustCompile("`([A-Z0-9_]+)`").FindAllString(cell, -1)...)
	}
	names = append(names, regexp.MustCompile("`SLUICE_[A-Z_]+").FindAllString(rest, -1)...)
	for _, name := range names {
		if !strings.Contains(code.String(), `"`+strings.Trim(name, "`")+`"`) {
			t.Errorf("no command reads %s", name)
		}
	}
	if len(names) < 20 {
		t.Errorf("docs/moving.md names %d variables; the test looks in the wrong place", len(names))
	}
	for _, m := range regexp.MustCompile("`([a-z0-9/]+)\\.(Test\\w+)`").FindAllStringSubmatch(string(text), -1) {
		if !hasTest(t, m[1], m[2]) {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
	}
}
