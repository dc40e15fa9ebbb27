package persister

import (
	"fmt"
	"testing"
)

// TestProjects: what was read last is known, and no more than the bound.
func TestProjects(t *testing.T) {
	t.Parallel()
	var p projects
	for i := range 3 * maxProjects {
		p.put(fmt.Sprint(i), []string{fmt.Sprint("action", i)})
		p.put(fmt.Sprint(i), []string{"another"}) // it never changes
	}
	if len(p.known) != maxProjects || len(p.order) != maxProjects {
		t.Errorf("%d plans are kept, in an order of %d; the bound is %d", len(p.known), len(p.order), maxProjects)
	}
	last := 3*maxProjects - 1
	if got, known := p.get(fmt.Sprint(last)); !known || len(got) != 1 || got[0] != fmt.Sprint("action", last) {
		t.Errorf("the last plan has %v, %v", got, known)
	}
	if _, known := p.get("0"); known {
		t.Error("the first plan is kept beyond the bound")
	}
	if p.put("none", nil); p.known["none"] != nil {
		t.Error("a plan without actions is kept")
	}
	if _, known := p.get("none"); known {
		t.Error("a plan without actions is known")
	}
}
