package planner

import (
	"slices"

	"sluice/messages"
	"sluice/planner/project"
)

// changed reports whether an action is written other than when a job of it was
// planned: its command, what it needs, or its outputs. Only `sluice run` asks:
// in a folder there is no commit to tell one version of a project from another.
func changed(a *project.Action, j *messages.Job) bool {
	command, err := a.Command()
	if err != nil {
		return false // no job can be made of it: that is said elsewhere
	}
	return !slices.Equal(command, append([]string{j.Image}, j.Args...)) || !slices.Equal(a.Needs, j.Needs) || !slices.Equal(rulesOf(a), j.Rules)
}

// rulesOf returns the rules for the files of an action.
func rulesOf(a *project.Action) []messages.Rule {
	var rules []messages.Rule
	for _, o := range a.Outputs {
		rules = append(rules, messages.Rule{Tier: messages.Tier(o.Level), Name: o.Name, Pattern: o.Pattern})
	}
	return rules
}
