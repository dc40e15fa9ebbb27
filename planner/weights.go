package planner

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"sluice/messages"
)

// A Weight says how many slots some jobs take.
type Weight struct {
	Backend   string  // empty means every backend
	Workspace string  // or DefaultSection
	Pattern   string  // must match an action's whole name; in DefaultSection its whole run command
	Slots     float64 // above zero
}

// DefaultSection is the Workspace of weights that hold where no weight of the
// job's own workspace does.
const DefaultSection = messages.DefaultWeights

func (w Weight) check() error {
	return (&messages.Setting{Weights: []messages.Weight{w.plain()}}).Validate()
}

// plain is the weight as a backend's setting has it.
func (w Weight) plain() messages.Weight {
	return messages.Weight{Workspace: w.Workspace, Pattern: w.Pattern, Slots: w.Slots}
}

// ParseWeights reads a weights file as the reference's operators have it
// (job-resource-weights_BACKEND.ini):
//
//	[workspace]
//	regular expression of an action's name = 2.5
//	[default]
//	regular expression of a run command = 4
//
// It reports every line that it does not understand.
func ParseWeights(backend string, file []byte) ([]Weight, error) {
	var list []Weight
	var p messages.Problems
	section := ""
	for i, line := range strings.Split(string(file), "\n") {
		line = strings.TrimSpace(line)
		name, isSection := strings.CutPrefix(line, "[")
		pattern, value, isPair := strings.Cut(line, "=")
		switch {
		case line == "" || line[0] == '#' || line[0] == ';':
		case isSection && strings.HasSuffix(name, "]"):
			section = strings.TrimSuffix(name, "]")
		case !isPair || section == "":
			p = append(p, fmt.Sprintf("line %d is not \"pattern = number\" below a [section]", i+1))
		default:
			slots, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			w := Weight{Backend: backend, Workspace: section, Pattern: strings.TrimSpace(pattern), Slots: slots}
			if err == nil {
				err = w.check()
			}
			if err != nil {
				p = append(p, fmt.Sprintf("line %d: %v", i+1, err))
				continue
			}
			list = append(list, w)
		}
	}
	return list, p.Err()
}

// weights answers how heavy a job is.
type weights struct {
	rules   []Weight
	regexps []*regexp.Regexp
}

func newWeights(rules []Weight) (weights, error) {
	w := weights{rules: rules}
	for _, rule := range rules {
		re, err := rule.plain().Compile()
		if err != nil {
			return w, fmt.Errorf("pattern %s: %w", messages.Quote(rule.Pattern), err)
		}
		w.regexps = append(w.regexps, re)
	}
	return w, nil
}

// of returns the first match of the workspace's own rules, then of the default
// ones, else 1 (controller/main.py, get_job_resource_weight).
func (w weights) of(backend, workspace, action, run string) float64 {
	for _, try := range []struct{ section, text string }{{workspace, action}, {DefaultSection, run}} {
		for i, rule := range w.rules {
			if (rule.Backend == "" || rule.Backend == backend) && rule.Workspace == try.section && w.regexps[i].MatchString(try.text) {
				return rule.Slots
			}
		}
	}
	return 1
}
