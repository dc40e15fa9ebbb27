package project

import (
	"errors"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxReusable bounds an action.yaml, in bytes; it has one line that counts.
const maxReusable = 64 << 10

// ParseReusable returns the run line of a reusable action's action.yaml. An
// error is the reference's sentence (controller/reusable_actions.py), for those
// who wrote the action.
func ParseReusable(file []byte) (run string, err error) {
	missing := errors.New("Missing `run` key in 'action.yaml'")
	if len(file) > maxReusable {
		return "", errors.New("'action.yaml' is too large")
	}
	var top yaml.Node
	if err := yaml.Unmarshal(file, &top); err != nil || len(top.Content) != 1 || top.Content[0].Kind != yaml.MappingNode {
		return "", missing
	}
	pairs := top.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i].Value == "run" && pairs[i+1].Kind == yaml.ScalarNode && pairs[i+1].Value != "" {
			return pairs[i+1].Value, nil
		}
	}
	return "", missing
}

// Reuse makes an action run what a reusable action's run line says, with its own
// arguments behind it, and the code of that action's repository at a commit. An
// error is the reference's sentence.
func (a *Action) Reuse(run, repo, commit string, isImage func(name string) bool) error {
	words, err := Split(run)
	if err != nil || len(words) == 0 {
		return errors.New("`run` in 'action.yaml' is no command line")
	}
	name, version, _ := strings.Cut(words[0], ":")
	switch {
	case !isImage(name) || !imageVersion.MatchString(version):
		return errors.New("Unrecognised runtime: " + words[0])
	case isDatabase(name, words[1:]):
		return errors.New("Re-usable actions cannot run commands which access the database")
	}
	if a.unfit != "" {
		return nil // told elsewhere
	}
	a.command = slices.Concat(words, a.command[1:])
	a.Repo, a.Commit = repo, commit
	return nil
}

// Refuse has Command report why the action cannot be run.
func (a *Action) Refuse(why string) { a.unfit = why }
