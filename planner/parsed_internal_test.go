package planner

import (
	"fmt"
	"testing"
)

// TestParsed: a file is parsed once as long as few others are, what is changed in
// one copy is not in the next, and a file with problems has them each time.
func TestParsed(t *testing.T) {
	t.Parallel()
	file := func(i int) []byte {
		return fmt.Appendf(nil, "version: 5\nactions:\n  a%d:\n    run: r:v1 x\n    outputs: {highly_sensitive: {x: a.txt}}\n", i)
	}
	var k parsed
	first, problems := k.parse(file(0))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	first.Action("a0").Refuse("changed")
	first.Action("a0").Digest = "sha256:1"
	second, _ := k.parse(file(0))
	a := second.Action("a0")
	if _, err := a.Command(); err != nil || a.Digest != "" || second.Actions[0] != a {
		t.Errorf("a copy has what was changed in another: %v, digest %q", err, a.Digest)
	}
	kept := k.files[0].project
	for i := range mostParsed - 1 {
		_, _ = k.parse(file(i + 1))
	}
	_, _ = k.parse(file(0))
	if len(k.files) != mostParsed || k.files[0].project != kept {
		t.Errorf("%d files are kept, and the one that is used again is not the first", len(k.files))
	}
	_, _ = k.parse(file(mostParsed))
	if len(k.files) != mostParsed {
		t.Errorf("%d files are kept, want %d", len(k.files), mostParsed)
	}
	for range 2 {
		if _, problems := k.parse([]byte("version: 5\nactions: 1\n")); len(problems) == 0 {
			t.Error("a wrong file is said to be right")
		}
	}
}
