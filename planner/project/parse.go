package project

import (
	"fmt"
	"slices"
	"strings"
)

// Parse reads a project file. It returns either the project or everything that
// is wrong with it, never both. It is pure: equal bytes, equal answer.
func Parse(data []byte) (*Project, Problems) {
	p, c := parse(data)
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	return p, nil
}

// parse returns the project as far as it could be understood, and the checker
// with what is wrong with it.
func parse(data []byte) (*Project, *checker) {
	c := &checker{}
	p := &Project{byName: map[string]*Action{}, PopulationSize: defaultPopulation}
	root := read(data, c)
	if root == nil {
		return p, c
	}
	if root.kind != dict {
		c.at(root, RuleShape, "The project file must be a dictionary of key/value pairs, but is "+kindNames[root.kind],
			"Start the file with `version: 5` and `actions:`, each at the start of a line.")
		return p, c
	}
	c.unknownKeys(root, "project", "version", "actions", "expectations")
	rules := c.version(p, root)
	drafts := c.actions(p, root, rules)
	c.together(drafts, rules)
	c.expectations(p, root, rules)
	if c.acyclic(drafts) && len(c.problems) == 0 {
		for _, d := range drafts {
			p.Actions = append(p.Actions, d.Action)
			p.byName[d.Name] = d.Action
		}
		p.graph = newGraph(p)
	}
	p.Warnings = c.warnings
	return p, c
}

// unknownKeys wants v to have no other keys than known, and reports whether it
// has none.
func (c *checker) unknownKeys(v *value, where string, known ...string) bool {
	var names []string
	var first *value
	for _, p := range v.pairs {
		if p.key.kind == str && slices.Contains(known, p.key.text) {
			continue
		}
		if first == nil {
			first = p.key
		}
		names = append(names, p.key.String())
	}
	if first == nil {
		return true
	}
	hint := "Allowed are: " + strings.Join(known, ", ") + "."
	if meant := c.nearest(names[0], known); meant != "" && v.get(meant) == nil {
		hint = fmt.Sprintf("Did you mean `%s`? %s", meant, hint)
	}
	c.at(first, RuleUnknownKey, fmt.Sprintf("Unexpected parameters (%s) in %s", strings.Join(names, ", "), where), hint)
	return false
}

// versionRules are the rules that came and went with versions of the format.
type versionRules struct {
	uniqueOutputs   bool // from 2
	population      bool // 3 only
	cohortExtractor bool // before 4
	noExpectations  bool // from 4
	runAll          bool // before 5
	noLatest        bool // from 5
}

// version reads the version and returns its rules. Where it cannot be
// understood, only rules of all versions apply.
func (c *checker) version(p *Project, root *value) versionRules {
	rules := versionRules{cohortExtractor: true, runAll: true}
	v := root.get("version")
	if v.absent() {
		place := root
		if v != nil {
			place = v
		}
		c.at(place, RuleNoVersion, fmt.Sprintf("Project file must have a `version` attribute specifying which version of the project configuration format it uses (current latest version is %d)", LatestVersion),
			fmt.Sprintf("Write `version: %d` as the first line.", LatestVersion))
		return rules
	}
	number, ok := v.float()
	if !ok {
		c.at(v, RuleVersion, fmt.Sprintf("`version` must be a number between 1 and %d", LatestVersion), fmt.Sprintf("Write `version: %d`.", LatestVersion))
		return rules
	}
	p.Version = Version(number)
	if number > LatestVersion {
		c.at(v, RuleFutureVersion, fmt.Sprintf("The latest version is v%d, but got v%s", LatestVersion, p.Version), fmt.Sprintf("Write `version: %d`.", LatestVersion))
		return rules
	}
	if number != LatestVersion {
		c.warn("Your project file is using an old version (%s); consider updating to version %d", p.Version, LatestVersion)
	}
	return versionRules{
		uniqueOutputs:   number >= 2,
		population:      number == 3,
		cohortExtractor: !(number >= 4), // a version that is not a number has no rule
		noExpectations:  number >= 4,
		runAll:          !(number >= 5),
		noLatest:        number >= 5,
	}
}

// warn notes what works but should be changed.
func (c *checker) warn(format string, args ...any) {
	c.warnings = append(c.warnings, "ProjectWarning: "+fmt.Sprintf(format, args...))
}

const defaultPopulation = "1000"

// expectations checks the section of that name, which only version 3 wants.
func (c *checker) expectations(p *Project, root *value, rules versionRules) {
	v := root.get("expectations")
	switch {
	case rules.noExpectations && !v.absent():
		c.at(v, RuleExpectations, "Project includes `expectations` section, which is not supported in this version. This section is only applicable to deprecated cohortextractor actions; you can safely remove it.",
			"Remove the section `expectations`.")
		return
	case !rules.population:
		return
	}
	const example = "Version 3 wants these two lines: `expectations:` and, indented, `population_size: 1000`."
	switch {
	case v.absent():
		c.at(root, RuleExpectations, "Project must include `expectations` section", example)
		return
	case v.kind != dict:
		c.at(v, RuleExpectations, "Project `expectations` section must be a dictionary of key/value pairs", example)
		return
	}
	size := v.get("population_size")
	if size == nil {
		c.at(v, RuleExpectations, "Project `expectations` section must include `population_size` section", example)
	}
	c.unknownKeys(v, "project `expectations` section", "population_size")
	if size == nil {
		return
	}
	digits, ok := size.int()
	if !ok {
		c.at(size, RuleExpectations, "Project expectations population size must be a number", "Write a whole number, for example `population_size: 1000`.")
		return
	}
	p.PopulationSize = digits
}
