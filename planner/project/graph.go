package project

import (
	"fmt"
	"slices"
	"strings"
)

// A graph is the order of a project's actions.
type graph struct {
	levels   [][]string
	creation []string
}

// AllActions returns the names of the actions that run when everything is
// asked for, in the file's order: all but one that is called run_all.
func (p *Project) AllActions() []string {
	names := make([]string, 0, len(p.Actions))
	for _, a := range p.Actions {
		if a.Name != RunAll {
			names = append(names, a.Name)
		}
	}
	return names
}

// Levels returns the waves in which everything can run: every action stands
// one level after the last of its needs, each level in the file's order.
func (p *Project) Levels() [][]string {
	levels := make([][]string, len(p.graph.levels))
	for i, level := range p.graph.levels {
		levels[i] = slices.Clone(level)
	}
	return levels
}

// Order returns the levels as one list.
func (p *Project) Order() []string {
	return append([]string{}, slices.Concat(p.graph.levels...)...)
}

// CreationOrder returns the order in which jobs are made when everything is
// asked for: the file's, but the needs of an action before it.
func (p *Project) CreationOrder() []string { return append([]string{}, p.graph.creation...) }

// Closure returns the named actions with everything they need, needs first.
// Names that are not in the project are left out.
func (p *Project) Closure(names ...string) []string {
	var order []string
	walk(names, p.needsOf, nil, func(name string) {
		if p.byName[name] != nil {
			order = append(order, name)
		}
	})
	return order
}

func (p *Project) needsOf(name string) []string {
	if a := p.byName[name]; a != nil {
		return a.Needs
	}
	return nil
}

func newGraph(p *Project) graph {
	var g graph
	depth := make(map[string]int, len(p.Actions))
	walk(p.AllActions(), p.needsOf, nil, func(name string) {
		g.creation = append(g.creation, name)
		for _, need := range p.needsOf(name) {
			depth[name] = max(depth[name], depth[need]+1)
		}
		for len(g.levels) <= depth[name] {
			g.levels = append(g.levels, nil)
		}
	})
	reached := make(map[string]bool, len(g.creation))
	for _, name := range g.creation {
		reached[name] = true
	}
	for _, a := range p.Actions {
		if reached[a.Name] {
			g.levels[depth[a.Name]] = append(g.levels[depth[a.Name]], a.Name)
		}
	}
	return g
}

// walk visits the names depth first, the needs of each before it, each once.
// Where a need closes a circle, circle is told who needs it and the way from
// it; then the walk goes on as if that need were not. The stack is its own, so
// that a long chain costs no more than its length.
func walk(names []string, needs func(string) []string, circle func(who string, need int, way []string), visit func(string)) {
	type frame struct {
		name  string
		needs []string
		next  int
	}
	const open, closed = 1, 2
	state := map[string]int{}
	for _, name := range names {
		if state[name] != 0 {
			continue
		}
		state[name] = open
		stack := []frame{{name: name, needs: needs(name)}}
		for len(stack) > 0 {
			top := &stack[len(stack)-1]
			if top.next == len(top.needs) {
				state[top.name] = closed
				visit(top.name)
				stack = stack[:len(stack)-1]
				continue
			}
			need := top.needs[top.next]
			top.next++
			switch state[need] {
			case open:
				if circle != nil {
					var way []string
					for i := len(stack) - 1; ; i-- {
						way = append(way, stack[i].name)
						if stack[i].name == need {
							break
						}
					}
					slices.Reverse(way)
					circle(top.name, top.next-1, way)
				}
			case 0:
				state[need] = open
				stack = append(stack, frame{name: need, needs: needs(need)})
			}
		}
	}
}

// acyclic notes every circle of needs and reports whether there is none.
func (c *checker) acyclic(drafts []*draft) bool {
	byName := make(map[string]*draft, len(drafts))
	names := make([]string, 0, len(drafts))
	for _, d := range drafts {
		if d.key.kind == str {
			byName[d.Name] = d
			names = append(names, d.Name)
		}
	}
	circles := 0
	walk(names, func(name string) []string {
		if d := byName[name]; d != nil {
			return d.Needs
		}
		return nil
	}, func(who string, need int, way []string) {
		if circles++; circles > maxProblems {
			return
		}
		place := byName[who].needs[need]
		if len(way) == 1 {
			c.at(place, RuleCycle, fmt.Sprintf("Action `%s` needs itself", who), "Remove this need.")
			return
		}
		c.at(place, RuleCycle, "Actions need each other in a circle: "+strings.Join(circleNames(way), " -> "),
			"Each of them waits for the next, for ever. Remove one of these needs.")
	}, func(string) {})
	return circles == 0
}

// circleNames closes the circle, and leaves out the middle of a long one.
func circleNames(way []string) []string {
	const most = 12
	way = append(slices.Clone(way), way[0])
	if len(way) > most {
		left := fmt.Sprintf("(%d more)", len(way)-most)
		way = slices.Concat(way[:most/2], []string{left}, way[len(way)-most/2:])
	}
	return way
}
