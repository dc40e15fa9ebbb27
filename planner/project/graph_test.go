package project_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/planner/project"
)

// study makes a project of actions that are written "name: need need".
func study(t interface{ Fatal(...any) }, actions ...string) *project.Project {
	var file strings.Builder
	file.WriteString("version: 5\nactions:\n")
	if len(actions) == 0 {
		file.WriteString("  {}\n")
	}
	for _, line := range actions {
		name, needs, _ := strings.Cut(line, ":")
		file.WriteString(action(name, fmt.Sprintf("needs: [%s]", strings.Join(strings.Fields(needs), ", "))))
	}
	p, problems := project.Parse([]byte(file.String()))
	if problems != nil {
		t.Fatal(problems)
	}
	return p
}

func TestOrder(t *testing.T) {
	t.Parallel()

	for _, tc := range []struct {
		name     string
		project  *project.Project
		levels   [][]string
		creation []string
	}{
		{"nothing", study(t), [][]string{}, []string{}},
		{"file order", study(t, "b:", "a:"), [][]string{{"b", "a"}}, []string{"b", "a"}},
		{"diamond", study(t, "report: left right", "left: extract", "right: extract", "extract:"),
			[][]string{{"extract"}, {"left", "right"}, {"report"}}, []string{"extract", "left", "right", "report"}},
		{"needs in their own order", study(t, "a:", "b:", "c: b a"), [][]string{{"a", "b"}, {"c"}}, []string{"a", "b", "c"}},
		{"depth first", study(t, "z: b a", "a:", "b: c", "c:"), [][]string{{"a", "c"}, {"b"}, {"z"}}, []string{"c", "b", "a", "z"}},
		{"a need twice", study(t, "a:", "b: a a"), [][]string{{"a"}, {"b"}}, []string{"a", "b"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()

			if diff := cmp.Diff(tc.levels, tc.project.Levels()); diff != "" {
				t.Errorf("levels mismatch (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(slices.Concat(append([][]string{{}}, tc.levels...)...), tc.project.Order()); diff != "" && len(tc.levels) > 0 {
				t.Errorf("order mismatch (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tc.creation, tc.project.CreationOrder()); diff != "" {
				t.Errorf("creation order mismatch (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLevelsProperty: every action is in one level, the first that is later
// than all of its needs.
func TestLevelsProperty(t *testing.T) {
	t.Parallel()

	rapid.Check(t, func(t *rapid.T) {
		var lines []string
		n := rapid.IntRange(0, 12).Draw(t, "actions")
		for i := range n {
			line := fmt.Sprintf("a%d:", i)
			for j := range i {
				if rapid.Bool().Draw(t, "needs") {
					line += fmt.Sprintf(" a%d", j)
				}
			}
			lines = append(lines, line)
		}
		p := study(t, rapid.Permutation(lines).Draw(t, "file")...)
		level := map[string]int{}
		for i, names := range p.Levels() {
			for _, name := range names {
				level[name] = i + 1
			}
		}
		for _, a := range p.Actions {
			want := 1
			for _, need := range a.Needs {
				want = max(want, level[need]+1)
			}
			if level[a.Name] != want {
				t.Fatalf("level of %s = %d, want %d", a.Name, level[a.Name], want)
			}
			if got := len(p.Closure(a.Name)); got < level[a.Name] {
				t.Fatalf("%s needs %d actions, but is in level %d", a.Name, got, level[a.Name])
			}
		}
	})
}

func TestCircles(t *testing.T) {
	t.Parallel()

	file := "version: 5\nactions:\n" +
		action("a", "needs: [c, free]") + action("b", "needs: [a]") + action("c", "needs: [b, c]") + action("free")
	_, problems := project.Parse([]byte(file))
	want := []string{
		"line 10, column 13: Actions need each other in a circle: a -> c -> b -> a",
		"line 14, column 16: Action `c` needs itself",
	}
	var got []string
	for _, problem := range problems {
		got = append(got, problem.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("problems mismatch (-want +got):\n%s", diff)
	}
}

// TestDrawings: the three drawings, with names that try to break out of them.
func TestDrawings(t *testing.T) {
	t.Parallel()

	p, problems := project.Parse([]byte(`version: 5
actions:
  extract: {run: 'p:v1 1', outputs: {highly_sensitive: {t: 1.csv}}}
  "</text><script>alert(1)</script>": {run: 'p:v1 2', needs: [extract], outputs: {highly_sensitive: {t: 2.csv}}}
  "a\"]\n  x --> y \e[31m %%{init}%%": {run: 'p:v1 3', needs: [extract, extract], outputs: {highly_sensitive: {t: 3.csv}}}
  end: {run: 'p:v1 4', needs: [extract, "</text><script>alert(1)</script>"], outputs: {highly_sensitive: {t: 4.csv}}}
`))
	if problems != nil {
		t.Fatal(problems)
	}
	states := map[string]string{"extract": "succeeded", "end": "<pending>"}
	golden(t, "testdata/graph.txt", project.GraphText(p, states))
	golden(t, "testdata/graph.mmd", project.GraphMermaid(p, states))
	svg := project.GraphSVG(p, states)
	golden(t, "testdata/graph.svg", svg)

	names := map[string]bool{}
	for in := xml.NewDecoder(strings.NewReader(svg)); ; {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the drawing is not XML: %v", err)
		}
		if start, ok := token.(xml.StartElement); ok {
			names[start.Name.Local] = true
		}
	}
	if diff := cmp.Diff(map[string]bool{"svg": true, "title": true, "g": true, "path": true, "rect": true, "text": true}, names); diff != "" {
		t.Errorf("elements mismatch (-want +got):\n%s", diff)
	}
}
