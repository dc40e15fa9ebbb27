package project

import (
	"fmt"
	"strings"
)

// together checks the rules that are about several actions.
func (c *checker) together(drafts []*draft, rules versionRules) {
	for _, d := range drafts {
		if !rules.cohortExtractor && strings.HasPrefix(d.Image, "cohortextractor") {
			c.at(d.run, RuleCohortExtractor, fmt.Sprintf("Action %s uses cohortextractor actions, which are not supported in this version.", d.key),
				"Use ehrQL: `ehrql:v1 generate-dataset`.")
		}
	}
	for _, d := range drafts {
		if rules.noLatest && d.ImageVersion == "latest" {
			c.at(d.run, RuleLatest, fmt.Sprintf("Action %s uses `%s:latest`, which is not supported. Provide a version e.g. `:v2` instead", d.key, d.ImageName),
				"Until version 4 `:latest` meant `:v1`.")
		}
	}
	runs := make(map[string]*draft, len(drafts))
	for _, d := range drafts {
		if d.Image == "" {
			continue // said already
		}
		if other := runs[d.Run]; other != nil {
			c.at(d.run, RuleSameRun, fmt.Sprintf("Action %s has the same 'run' command as other actions: %s", d.key, other.key),
				"Give each its own arguments, or remove one.")
			continue
		}
		runs[d.Run] = d
	}
	if rules.uniqueOutputs {
		c.uniqueOutputs(drafts)
	}
	c.needsExist(drafts)
}

func (c *checker) uniqueOutputs(drafts []*draft) {
	type writer struct {
		action *draft
		line   int
	}
	writers := map[string]writer{}
	for _, d := range drafts {
		for i, output := range d.Outputs {
			if other, taken := writers[output.Pattern]; taken {
				c.at(d.patterns[i], RuleOutputUnique, fmt.Sprintf("Output path %s is not unique", output.Pattern),
					fmt.Sprintf("Action %s has it in line %d. Every action needs paths of its own.", other.action.key, other.line))
				continue
			}
			writers[output.Pattern] = writer{d, output.Line}
		}
	}
}

func (c *checker) needsExist(drafts []*draft) {
	known := make(map[string]bool, len(drafts))
	names := make([]string, 0, len(drafts))
	for _, d := range drafts {
		if d.key.kind == str {
			known[d.Name] = true
			names = append(names, d.Name)
		}
	}
	for _, d := range drafts {
		for i, need := range d.Needs {
			if known[need] {
				continue
			}
			hint := "Needs are names of actions of this project."
			if meant := c.nearest(need, names); meant != "" {
				hint = fmt.Sprintf("Did you mean `%s`?", meant)
			}
			c.at(d.needs[i], RuleUnknownNeed, fmt.Sprintf("Action `%s` references an unknown action in its `needs` list: %s", d.key, need), hint)
		}
	}
}
