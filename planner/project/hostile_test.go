package project_test

import (
	"fmt"
	"strings"
	"testing"

	"sluice/planner/project"
)

// action is one valid action of a project file, with more lines of its own.
func action(name string, more ...string) string {
	text := fmt.Sprintf("  %s:\n    run: python:v2 %s.py\n    outputs: {highly_sensitive: {t: output/%s.csv}}\n", name, name, name)
	for _, line := range more {
		text += "    " + line + "\n"
	}
	return text
}

// TestHostile: files made to hurt are refused with a sentence, and cost no more
// than their size.
func TestHostile(t *testing.T) {
	t.Parallel()

	// Each anchor holds the one before it ten times: 10^9 in eleven lines.
	bomb := "version: 5\nx0: &x0 [lol]\n"
	for i := 1; i <= 10; i++ {
		bomb += fmt.Sprintf("x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 10), ", "))
	}
	configBomb := "version: 5\nactions:\n" + action("a", "config:", "  x0: &x0 [lol]")
	for i := 1; i <= 10; i++ {
		configBomb += fmt.Sprintf("      x%d: &x%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*x%d, ", i-1), 10), ", "))
	}
	keys := "m: &m {" + numbered("k%d: 1, ", 5000) + "}\n"
	outputs := "&o {highly_sensitive: {" + numbered("o%d: output/o%[1]d.csv, ", 5000) + "}}"

	for _, tc := range []struct {
		name, file string
		want       project.Rule // of the first problem
	}{
		{"10 MB", strings.Repeat("# ten letters\n", 10<<20/14), project.RuleSize},
		{"bomb of lists", bomb, project.RuleUnknownKey},
		{"bomb in config", configBomb, project.RuleConfig},
		{"bomb of merges", keys + "v: {<<: [" + strings.Repeat("*m, ", 5000) + "]}\n", project.RuleExpansion},
		{"bomb of outputs", "version: 1\nactions:\n  a: {run: 'p:v1', outputs: " + outputs + "}\n" + numbered("  b%d: {run: 'p:v1 %[1]d', outputs: *o}\n", 5000), project.RuleExpansion},
		{"bomb of run lines", "version: 1\nactions:\n  a: {run: &r 'p:v1 " + strings.Repeat("x", 1<<20) + "', outputs: &o {highly_sensitive: {t: x.csv}}}\n" + numbered("  b%d: {run: *r, outputs: *o}\n", 500), project.RuleExpansion},
		{"circle of merges", "a: &a\n  <<: *a\n", project.RuleExpansion},
		{"circle of anchors", "&a [*a]", project.RuleExpansion},
		{"deep brackets", strings.Repeat("[", 5000) + strings.Repeat("]", 5000), project.RuleDepth},
		{"deeper brackets", strings.Repeat("[", 1<<20), project.RuleYAML},
		{"deep braces", strings.Repeat("{a: ", 5000) + strings.Repeat("}", 5000), project.RuleDepth},
		{"deep dashes", strings.Repeat("- ", 5000) + "a", project.RuleDepth},
		{"question marks", strings.Repeat("? ", 5000) + "a", project.RuleDepth},
		{"anchors without end", strings.Repeat("&a ", 100_000), project.RuleYAML},
		{"a long name", "version: 5\nactions:\n" + action(strings.Repeat("n", 1000)), project.RuleActionName},
		{"too many actions", "version: 5\nactions:\n" + numbered("  a%d: 1\n", project.MaxActions+1), project.RuleTooManyActions},
		{"too many problems", "version: 5\nactions:\n" + numbered("  a%d: 1\n", 5000), project.RuleActionType},
		{"unknown needs without end", "version: 5\nactions:\n" + numbered("  a%d: {run: 'p:v1 %[1]d', needs: [b%[1]d], outputs: {highly_sensitive: {t: x%[1]d.csv}}}\n", 5000), project.RuleUnknownNeed},
		{"everything needs everything", "version: 5\nactions:\n" + numbered("  a%d: {run: 'p:v1 %[1]d', needs: [a0, a1, a2, a3, a4, a5, a6, a7], outputs: {highly_sensitive: {t: x%[1]d.csv}}}\n", 5000), project.RuleCycle},
		{"a backtracking glob", "version: 5\nactions:\n  a: {run: 'ehrql:v1 generate-dataset --output " + strings.Repeat("*a", 1000) + ":csv', outputs: {highly_sensitive: {t: " + strings.Repeat("a", 20_000) + ".csv}}}\n", project.RuleDatasetOutput},
		{"a NUL", "version: 5\x00", project.RuleEncoding},
		{"a number without end", "version: " + strings.Repeat("9", 100_000), project.RuleValue},
		{"UTF-16 that ends in the middle", "\xff\xfea\x00b", project.RuleShape},
		{"only a byte order mark", "\xef\xbb\xbf", project.RuleShape},
		{"a version of the future's parser", "%YAML 3.0\n---\nversion: 5\n", project.RuleYAML},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()

			report := project.Check("project.yaml", []byte(tc.file))
			if report.Valid || report.Errors[0].Rule != tc.want {
				t.Fatalf("first problem = %.500v, want one of %s", project.Problems(report.Errors), tc.want)
			}
			if n := len(report.Text()); n > 16<<20 {
				t.Errorf("the report has %d bytes", n)
			}
		})
	}
}

// numbered repeats a format for 0, 1, 2, ….
func numbered(format string, n int) string {
	var out strings.Builder
	for i := range n {
		fmt.Fprintf(&out, format, i)
	}
	return out.String()
}

// TestLarge: a project as large as the largest real one, and a chain as long
// as anybody could make it, are read whole.
func TestLarge(t *testing.T) {
	t.Parallel()

	const actions = 10_000
	var file strings.Builder
	file.WriteString("version: 5\nactions:\n")
	for i := range actions {
		needs := "needs: []"
		if i > 0 {
			needs = fmt.Sprintf("needs: [a%d]", i-1)
		}
		file.WriteString(action(fmt.Sprintf("a%d", i), needs))
	}
	p, problems := project.Parse([]byte(file.String()))
	if problems != nil {
		t.Fatalf("Parse: %.300v", problems)
	}
	if got := len(p.Levels()); got != actions {
		t.Errorf("%d levels, want %d", got, actions)
	}
	if got := p.CreationOrder(); got[0] != "a0" || got[actions-1] != fmt.Sprintf("a%d", actions-1) {
		t.Errorf("creation order runs from %s to %s", got[0], got[actions-1])
	}
	if got := len(p.Closure(fmt.Sprintf("a%d", actions-1))); got != actions {
		t.Errorf("the last action needs %d, want %d", got, actions)
	}

	closed := strings.Replace(file.String(), "needs: []", fmt.Sprintf("needs: [a%d]", actions-1), 1)
	_, problems = project.Parse([]byte(closed))
	if len(problems) != 1 || problems[0].Rule != project.RuleCycle || len(problems[0].Message) > 300 {
		t.Errorf("a circle of %d: %.500v, want one short sentence", actions, problems)
	}
}

// TestProblemsAreBounded: of many problems the first are told.
func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()

	_, problems := project.Parse([]byte("version: 5\nactions:\n" + numbered("  a%d: 1\n", 5000)))
	if n := len(problems); n != 1001 || problems[n-1].Rule != project.RuleTooMany {
		t.Errorf("%d problems, the last %v, want 1001 of which the last says that there are more", n, problems[n-1])
	}
}
