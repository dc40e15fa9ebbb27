package project

import (
	"fmt"
	"slices"
	"strings"
)

// Rules for the two generations of actions that take data out of the database.
// They look at the run line as written, so that a second blank, a line end or a
// quote hides an action from them; that is how the format is.

// calls reports whether a run line starts with one of the images, a colon, a
// version, exactly one blank and one of the commands.
func calls(line string, images, commands []string) bool {
	for _, image := range images {
		rest, ok := strings.CutPrefix(line, image+":")
		blank := strings.IndexFunc(rest, pythonSpace)
		if !ok || blank < 1 {
			continue
		}
		for _, command := range commands {
			if strings.HasPrefix(rest[blank:], " "+command) {
				return true
			}
		}
	}
	return false
}

// cohortOutputs: generate_cohort writes files of one level into one directory.
func (c *checker) cohortOutputs(d *draft, id string) {
	if !calls(d.Run, []string{"cohortextractor"}, []string{"generate_cohort"}) {
		return
	}
	if n := len(d.levels); n != 1 {
		c.at(d.run, RuleCohortOutputs, fmt.Sprintf("A `generate_cohort` action must have exactly one output; %s had %d", id, n), "Put all of its outputs under highly_sensitive.")
		return
	}
	var folders []string
	seen := map[string]bool{}
	for _, output := range d.Outputs {
		if folder := pureParent(output.Pattern); !seen[folder] {
			seen[folder] = true
			folders = append(folders, " - "+folder+"/")
		}
	}
	explicit := slices.ContainsFunc(d.Args, func(arg string) bool {
		return arg == "--output-dir" || strings.HasPrefix(arg, "--output-dir=")
	})
	if len(folders) != 1 && !explicit {
		c.at(d.run, RuleCohortOutputs, fmt.Sprintf("generate_cohort command should produce output in only one directory, found %d:\n%s", len(folders), strings.Join(folders, "\n")),
			"Put the outputs into one folder, or name it with --output-dir.")
	}
}

// datasetOutputs: a data set is highly sensitive, and the run line and the
// outputs agree on where it goes.
func (c *checker) datasetOutputs(d *draft, id string) {
	if !calls(d.Run, []string{"ehrql", "databuilder"}, []string{"generate-dataset", "generate_dataset"}) {
		return
	}
	var patterns []string
	for _, output := range d.Outputs {
		if output.Level != HighlySensitive {
			c.at(d.run, RuleDatasetLevel, fmt.Sprintf("`%s` action uses `generate-dataset` and so all outputs must be labelled `highly_sensitive`", id), "Move all of its outputs under highly_sensitive: they are about single patients.")
			return
		}
		patterns = append(patterns, output.Pattern)
	}
	spec := outputArgument(d.Args)
	if spec == "" {
		c.at(d.run, RuleDatasetOutput, fmt.Sprintf("`%s` action does not provide an `--output` argument specifying where the results of `generate-dataset` should be stored", id),
			"Add `--output` and the path of the output to the run line.")
		return
	}
	if want, ok := matchesSpec(spec, patterns); !ok {
		c.at(d.run, RuleDatasetOutput, fmt.Sprintf("output specification must match the `--output` argument in the `run` command\n              got: %s\nbut was expecting: %s", strings.Join(patterns, ", "), want),
			"Write the same path in both places. For `--output folder:csv` the output is folder/*.csv.")
	}
}

// outputArgument is the value of the first --output, or "".
func outputArgument(args []string) string {
	for i, arg := range args {
		if arg == "--output" && i+1 < len(args) {
			return args[i+1]
		}
		if value, ok := strings.CutPrefix(arg, "--output="); ok {
			return value
		}
	}
	return ""
}

// matchesSpec reports whether the patterns are what a specification asks for.
// A path must be among them; a folder with a type (out/:csv, out:csv) wants all
// of them to be files of that type in it. It also returns how the specification
// is shown.
func matchesSpec(spec string, patterns []string) (string, bool) {
	name := pureName(spec)
	colon := strings.LastIndexByte(name, ':')
	if colon < 0 {
		return spec, slices.Contains(patterns, spec)
	}
	folder := pureParent(spec)
	if colon > 0 {
		folder = strings.TrimSuffix(purePath(spec), name[colon:])
	}
	extension := name[colon+1:]
	want := newFnmatch(folder + "/*." + extension)
	for _, pattern := range patterns {
		if !want.match(pattern) {
			return folder + "/:" + extension, false
		}
	}
	return folder + "/:" + extension, true
}
