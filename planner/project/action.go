package project

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// A draft is an action with the places where its parts are written.
type draft struct {
	*Action
	key      *value   // its name
	run      *value   // nil if there is none to speak of
	needs    []*value // parallel to Needs
	patterns []*value // parallel to Outputs
}

// actions reads the section `actions`. It returns a draft of every action that
// has a name, however broken the rest.
func (c *checker) actions(p *Project, root *value, rules versionRules) []*draft {
	v := root.get("actions")
	if v == nil || v.kind != dict {
		place := root
		if v != nil {
			place = v
		}
		c.at(place, RuleActionsType, "Project `actions` section must be a dictionary of key/value pairs",
			"Write `actions:` and, indented below it, the name of each action with a colon.")
		return nil
	}
	if len(v.pairs) > MaxActions {
		c.at(v, RuleTooManyActions, fmt.Sprintf("The project has %d actions; at most %d can be planned", len(v.pairs), MaxActions),
			"Divide the study into several projects.")
		return nil
	}
	var drafts []*draft
	names := make(map[string]bool, len(v.pairs))
	for _, pair := range v.pairs {
		d := &draft{Action: &Action{Name: pair.key.name(), Line: pair.key.line}, key: pair.key}
		c.name(d, names, rules)
		c.action(d, pair.value)
		drafts = append(drafts, d)
	}
	return drafts
}

// maxName bounds an action's name, which becomes a file's.
const maxName = 240

func (c *checker) name(d *draft, names map[string]bool, rules versionRules) {
	if d.Name == RunAll && d.key.kind == str {
		if !rules.runAll {
			c.at(d.key, RuleReservedName, "`run_all` is a reserved action name and is not allowed for user-defined actions.",
				"Give the action another name. `run_all` always means every action.")
		} else {
			c.warn("`run_all` is a reserved action name; user-defined actions with this name are ignored and will raise an error in later versions.")
		}
	}
	if len(d.Name) > maxName {
		c.at(d.key, RuleActionName, fmt.Sprintf("The action name `%s` has %d bytes; at most %d are possible", shorten(d.Name), len(d.Name), maxName), "Give the action a shorter name.")
	}
	if names[d.Name] {
		c.at(d.key, RuleActionName, fmt.Sprintf("Two actions are called %s, once as text and once as a number or a word with a meaning", d.Name), "Rename one of them.")
	}
	names[d.Name] = true
}

// action checks one action alone.
func (c *checker) action(d *draft, v *value) {
	id := d.key.String()
	if v.kind != dict {
		c.at(placeOf(v, d.key), RuleActionType, fmt.Sprintf("Configuration for action %s must be a dictionary of key/value pairs", id),
			"Indent `run:` and `outputs:` below the name of the action.")
		return
	}
	outputs, run := v.get("outputs"), v.get("run")
	if run == nil {
		c.at(d.key, RuleMissingKey, fmt.Sprintf("Action %s must contain a configuration for 'run'", id), "Add a line such as `run: python:v2 python analysis/model.py`.")
	}
	if outputs == nil {
		c.at(d.key, RuleMissingKey, fmt.Sprintf("Action %s must contain a configuration for 'outputs'", id),
			"List the files that the action leaves under `outputs:` and the level of sensitivity.")
	}
	c.unknownKeys(v, "action "+id, "run", "needs", "outputs", "config", "dummy_data_file")

	needs, config, dummy := v.get("needs"), v.get("config"), v.get("dummy_data_file")
	outputsFit := c.typed(outputs, dict, "outputs", id, "List the files under the level of sensitivity: `highly_sensitive:`, then `name: path`.")
	runFits := c.typed(run, str, "run", id, "Write the image and its arguments on one line: `run: python:v2 python analysis/model.py`.")
	needsFit := c.typed(optional(needs), list, "needs", id, "Write a list, even of one: `needs: [extract]`.")
	configFits := c.typed(optional(config), dict, "config", id, "Indent the settings below `config:`, each as `name: value`.")
	if c.typed(optional(dummy), str, "dummy_data_file", id, "Write one path: `dummy_data_file: dummy/data.csv`.") {
		d.DummyDataFile = dummy.text
	}

	outputsFit = outputsFit && c.outputs(d, id, outputs)
	runFits = runFits && c.run(d, id, run)
	if needsFit {
		c.needs(d, id, needs)
	}
	if runFits && outputsFit {
		c.cohortOutputs(d, id)
		c.datasetOutputs(d, id)
	}
	if runFits {
		d.command = append([]string{d.Image}, d.Args...)
		if configFits {
			c.config(d, id, config)
		}
	}
}

// placeOf is where v is written, or where its key is if v is written nowhere.
func placeOf(v, key *value) *value {
	if v.kind == null {
		return key
	}
	return v
}

// optional is v, or nil if v is written as nothing.
func optional(v *value) *value {
	if v.absent() {
		return nil
	}
	return v
}

// typed reports whether v is there and of that kind. Only if it is there and
// of another kind is that a problem.
func (c *checker) typed(v *value, want kind, section, id, hint string) bool {
	if v == nil || v.kind == want {
		return v != nil
	}
	must := map[kind]string{str: "string", dict: "dictionary of key/value pairs", list: "list"}[want]
	c.at(v, RuleKeyType, fmt.Sprintf("`%s` section for action %s must be a %s", section, id, must), hint)
	return false
}

// imageVersion is what may stand after an image's colon. Digits of any script
// have always been accepted.
var imageVersion = regexp.MustCompile(`^(?:v[\p{Nd}.]+(?:-pre)?|dev|latest)$`)

// run takes the run line apart.
func (c *checker) run(d *draft, id string, v *value) bool {
	d.run, d.Run = v, v.text
	if !c.room(v, 128+8*len(v.text)) {
		return false
	}
	const example = "Write the image, its version and the arguments: `python:v2 python analysis/model.py`."
	words, err := Split(v.text)
	switch {
	case strings.ContainsRune(v.text, 0):
		c.at(v, RuleRunWords, fmt.Sprintf("`run` section for action %s has a NUL character, which no program can be given", id), "Remove it.")
		return false
	case errors.Is(err, ErrNoClosingQuote):
		c.at(v, RuleRunWords, fmt.Sprintf("`run` section for action %s has a quote that is never closed", id),
			"Add the other quote. An apostrophe inside a word must stand in double quotes.")
		return false
	case err != nil:
		c.at(v, RuleRunWords, fmt.Sprintf("`run` section for action %s ends with a back slash", id), "Remove it, or put it in quotes if it is meant.")
		return false
	case len(words) == 0:
		c.at(v, RuleEmptyRun, fmt.Sprintf("run must have a value, %s has an empty run key", id), example)
		return false
	}
	d.Image, d.Args = words[0], words[1:]
	d.ImageName, d.ImageVersion, _ = strings.Cut(d.Image, ":")
	if !imageVersion.MatchString(d.ImageVersion) {
		c.at(v, RuleImageVersion, fmt.Sprintf("Action command %s must have a version specified in the form :vN (e.g. %s:v2)", d.ImageName, d.ImageName), example)
		return false
	}
	d.IsDatabase = isDatabase(d.ImageName, d.Args)
	return true
}

// databaseCommands are the images that may read the database, and with which
// first argument.
var databaseCommands = map[string][]string{
	"ehrql":           {"generate-dataset", "generate-measures"},
	"cohortextractor": {"generate_cohort", "generate_codelist_report"},
	"databuilder":     {"generate-dataset"},
}

func isDatabase(image string, args []string) bool {
	if image == "sqlrunner" {
		return true
	}
	for _, command := range databaseCommands[image] {
		if len(args) > 0 && args[0] == command {
			return true
		}
	}
	return false
}

// needs reads the list of needs. That they exist is checked when all actions
// are known.
func (c *checker) needs(d *draft, id string, v *value) {
	for _, need := range v.items {
		switch {
		case need.kind != str:
			c.at(need, RuleNeedsType, fmt.Sprintf("`needs` section for action %s must list names of actions, but one item is %s", id, kindNames[need.kind]),
				"Write each name as one item. A name that looks like a number must stand in quotes, here and where the action is.")
		case strings.Contains(need.text, " "):
			c.at(need, RuleNeedsSpace, fmt.Sprintf("`needs` actions should be separated with commas, but %s needs `%s`", id, need.text),
				fmt.Sprintf("Write `needs: [%s]`.", strings.Join(strings.Fields(need.text), ", ")))
		case !c.room(need, 64+len(need.text)):
			return
		default:
			d.Needs = append(d.Needs, need.text)
			d.needs = append(d.needs, need)
		}
	}
}
