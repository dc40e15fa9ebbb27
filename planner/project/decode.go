package project

import (
	"fmt"

	"gopkg.in/yaml.v3"
)

// A decoder turns YAML's nodes into values. It reads every node once, however
// often an alias repeats it, so that its work is bounded by the file's size
// and by maxValues.
type decoder struct {
	problems *checker
	done     map[*yaml.Node]*value // nil while the node is being read
	count    int                   // values made and pairs merged
	stopped  bool                  // a bound was hit; the file cannot be judged
}

// value returns what n means, or nil if it means nothing that can be used; the
// problem has been noted then.
func (d *decoder) value(n *yaml.Node, depth int) *value {
	if d.stopped {
		return nil
	}
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if v, seen := d.done[n]; seen {
		if v == nil {
			d.problems.add(RuleExpansion, n.Line, n.Column, fmt.Sprintf("The anchor `%s` contains itself", n.Anchor),
				"Remove the alias inside it.")
		}
		return v
	}
	if depth > maxDepth {
		d.stop(RuleDepth, n, fmt.Sprintf("More than %d lists and dictionaries stand inside each other", maxDepth),
			"A project needs about five levels.")
		return nil
	}
	if !d.spend(n, 1) {
		return nil
	}

	d.done[n] = nil
	var v *value
	switch n.Kind {
	case yaml.ScalarNode:
		v = d.scalar(n)
	case yaml.SequenceNode:
		v = d.sequence(n, depth)
	case yaml.MappingNode:
		v = d.mapping(n, depth)
	}
	if v != nil {
		v.line, v.column = n.Line, n.Column
	}
	d.done[n] = v
	if v == nil {
		delete(d.done, n) // bad, but not inside itself
	}
	return v
}

func (d *decoder) scalar(n *yaml.Node) *value {
	tag := "str"
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		tag = ownTag(n.Tag)
	case n.Style == 0:
		tag = plainTag(n.Value)
	}
	v, err := scalarOf(tag, n.Value)
	if err != nil {
		d.problems.add(RuleValue, n.Line, n.Column, fmt.Sprintf("The value `%s` %s", shorten(n.Value), err),
			"Put it in quotes if it is meant as text.")
		return &value{kind: tagged, text: n.Value}
	}
	return v
}

// ownTag is an explicit tag without the prefix of YAML's own types.
func ownTag(tag string) string {
	if len(tag) > len(tagPrefix) && tag[:len(tagPrefix)] == tagPrefix {
		return tag[len(tagPrefix):]
	}
	return tag
}

func (d *decoder) sequence(n *yaml.Node, depth int) *value {
	v := &value{kind: list}
	for _, item := range n.Content {
		if item := d.value(item, depth+1); item != nil {
			v.items = append(v.items, item)
		}
	}
	if n.Style&yaml.TaggedStyle == 0 {
		return v
	}
	switch tag := ownTag(n.Tag); tag {
	case "omap":
		return d.ordered(n, v)
	case "str", "int", "float", "bool", "null", "timestamp", "binary", "map", "set":
		d.problems.add(RuleValue, n.Line, n.Column, fmt.Sprintf("A list is marked as !!%s", tag), "Remove the mark.")
	}
	return v
}

// ordered reads a list of dictionaries with one key each as one dictionary.
func (d *decoder) ordered(n *yaml.Node, v *value) *value {
	whole := &value{kind: dict}
	for _, item := range v.items {
		if item.kind != dict || len(item.pairs) != 1 {
			d.problems.add(RuleValue, n.Line, n.Column, "An !!omap must be a list of single keys with their values", "Remove the mark.")
			return v
		}
		whole.pairs = append(whole.pairs, item.pairs[0])
	}
	return whole
}

func (d *decoder) mapping(n *yaml.Node, depth int) *value {
	var own, merged []pair
	var mergeKey *yaml.Node
	first := make(map[string]*value, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && !d.stopped; i += 2 {
		keyNode, valueNode := n.Content[i], n.Content[i+1]
		if isMerge(keyNode) {
			if mergeKey != nil {
				d.problems.add(RuleDuplicate, keyNode.Line, keyNode.Column, "The key `<<` occurs twice in one dictionary",
					"Write one `<<` with a list: `<<: [*a, *b]`.")
				continue
			}
			mergeKey, merged = keyNode, d.merge(valueNode, depth)
			continue
		}
		key, val := d.value(keyNode, depth+1), d.value(valueNode, depth+1)
		if key == nil || val == nil {
			continue
		}
		if key.kind == dict || key.kind == set || key.kind == list {
			d.problems.add(RuleValue, keyNode.Line, keyNode.Column, "A key must be a single value, not "+kindNames[key.kind],
				"Braces and brackets that are part of a name must stand in quotes.")
			continue
		}
		// A key that an alias repeats stands where the alias does.
		key = &value{kind: key.kind, text: key.text, num: key.num, yes: key.yes, line: keyNode.Line, column: keyNode.Column}
		if earlier := first[key.identity()]; earlier != nil {
			d.problems.add(RuleDuplicate, key.line, key.column,
				fmt.Sprintf("The key `%s` occurs twice in one dictionary, first in line %d", shorten(key.String()), earlier.line),
				"Rename one of the two, or remove it: only one could count.")
			continue
		}
		first[key.identity()] = key
		own = append(own, pair{key, val})
	}
	v := &value{kind: dict, pairs: own}
	if len(merged) > 0 {
		v.pairs = update(merged, own)
	}
	if n.Style&yaml.TaggedStyle == 0 {
		return v
	}
	switch tag := ownTag(n.Tag); tag {
	case "set":
		v.kind = set
		for _, p := range v.pairs {
			v.items = append(v.items, p.key)
		}
		v.pairs = nil
	case "str", "int", "float", "bool", "null", "timestamp", "binary", "seq", "omap", "pairs":
		d.problems.add(RuleValue, n.Line, n.Column, fmt.Sprintf("A dictionary is marked as !!%s", tag), "Remove the mark.")
	}
	return v
}

func isMerge(key *yaml.Node) bool {
	return key.Kind == yaml.ScalarNode && (key.Style == 0 && key.Value == "<<" || key.Style&yaml.TaggedStyle != 0 && key.Tag == "!!merge")
}

// merge returns what `<<` brings into a dictionary: one dictionary, or a list of
// them of which the earlier win.
func (d *decoder) merge(n *yaml.Node, depth int) []pair {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	sources := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		sources = n.Content
	}
	var merged []pair
	for i := len(sources) - 1; i >= 0; i-- {
		source := d.value(sources[i], depth+1)
		if source == nil {
			continue
		}
		if source.kind != dict {
			d.problems.add(RuleValue, sources[i].Line, sources[i].Column, "`<<` takes a dictionary or a list of dictionaries, not "+kindNames[source.kind],
				"Give it an alias of a dictionary: `<<: *name`.")
			continue
		}
		if !d.spend(n, len(merged)+len(source.pairs)) {
			return nil
		}
		merged = update(merged, source.pairs)
	}
	return merged
}

// update is Python's dict.update: a key keeps its first place and gets its
// last value.
func update(base, more []pair) []pair {
	at := make(map[string]int, len(base)+len(more))
	pairs := make([]pair, 0, len(base)+len(more))
	for _, from := range [][]pair{base, more} {
		for _, p := range from {
			id := p.key.identity()
			if i, ok := at[id]; ok {
				pairs[i] = p
				continue
			}
			at[id] = len(pairs)
			pairs = append(pairs, p)
		}
	}
	return pairs
}

// spend takes from the file's allowance of values; false when it is used up.
func (d *decoder) spend(n *yaml.Node, values int) bool {
	d.count += values
	if d.count > maxValues {
		d.stop(RuleExpansion, n, fmt.Sprintf("The file comes to more than %d values when its aliases and `<<` keys are followed", maxValues),
			"Use fewer aliases, or write a smaller project.")
	}
	return !d.stopped
}

func (d *decoder) stop(rule Rule, n *yaml.Node, message, hint string) {
	if !d.stopped {
		d.stopped = true
		d.problems.add(rule, n.Line, n.Column, message, hint)
	}
}
