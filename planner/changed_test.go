package planner_test

import (
	"testing"

	"sluice/messages"
	"sluice/planner"
)

// TestChanged: which difference to the last job is one.
func TestChanged(t *testing.T) {
	t.Parallel()
	const before = "version: 5\nactions:\n  a:\n    run: r:v2 a.R --x 1\n    config: {n: 1}\n    outputs:\n      highly_sensitive: {d: output/d.csv, e: output/e.csv}\n  b:\n    run: r:v2 b.R\n    outputs:\n      highly_sensitive: {f: output/f.csv}\n"
	for _, tc := range []struct {
		name, file string
		want       bool
	}{
		{"nothing", before, false},
		{"spaces and comments", "version: 5\nactions:\n  a: # it\n    run: r:v2  a.R   --x 1\n    config: {n: 1}\n    outputs:\n      highly_sensitive: {d: output/d.csv, e: output/e.csv}\n", false},
		{"an argument", "version: 5\nactions:\n  a:\n    run: r:v2 a.R --x 2\n    config: {n: 1}\n    outputs:\n      highly_sensitive: {d: output/d.csv, e: output/e.csv}\n", true},
		{"the image", "version: 5\nactions:\n  a:\n    run: r:v3 a.R --x 1\n    config: {n: 1}\n    outputs:\n      highly_sensitive: {d: output/d.csv, e: output/e.csv}\n", true},
		{"config", "version: 5\nactions:\n  a:\n    run: r:v2 a.R --x 1\n    config: {n: 2}\n    outputs:\n      highly_sensitive: {d: output/d.csv, e: output/e.csv}\n", true},
		{"a pattern", "version: 5\nactions:\n  a:\n    run: r:v2 a.R --x 1\n    config: {n: 1}\n    outputs:\n      highly_sensitive: {d: output/*.csv}\n", true},
		{"a level", "version: 5\nactions:\n  a:\n    run: r:v2 a.R --x 1\n    config: {n: 1}\n    outputs:\n      moderately_sensitive: {d: output/d.csv, e: output/e.csv}\n", true},
		{"a need", "version: 5\nactions:\n  a:\n    run: r:v2 a.R --x 1\n    config: {n: 1}\n    needs: [b]\n    outputs:\n      highly_sensitive: {d: output/d.csv, e: output/e.csv}\n  b:\n    run: r:v2 b.R\n    outputs:\n      highly_sensitive: {f: output/f.csv}\n", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			first, now := parse(t, before).Action("a"), parse(t, tc.file).Action("a")
			command, err := first.Command()
			if err != nil {
				t.Fatal(err)
			}
			j := &messages.Job{Image: command[0], Args: command[1:], Needs: first.Needs, Rules: planner.RulesOf(first)}
			if got := planner.Changed(now, j); got != tc.want {
				t.Errorf("changed = %v, want %v", got, tc.want)
			}
		})
	}
}
