package project

import (
	"fmt"
	"slices"
	"strings"
)

// level4Types are the files that output checkers read.
var level4Types = []string{".csv", ".jpg", ".jpeg", ".png", ".svg", ".svgz", ".html", ".txt", ".log", ".json", ".md"}

// outputs reads the section `outputs` of an action, and reports whether the
// rules about its command can be judged.
func (c *checker) outputs(d *draft, id string, v *value) bool {
	none := true
	for _, level := range allLevels {
		if !v.get(level).absent() {
			none = false
			d.levels = append(d.levels, level)
		}
	}
	if none {
		c.at(v, RuleNoOutputs, "must specify at least one output of: "+strings.Join(allLevels, ", "),
			fmt.Sprintf("Action %s: put its files under one of these levels, each as `name: path`.", id))
	}
	fit := c.unknownKeys(v, "`outputs` section for action "+id, allLevels...) && !none
	for _, level := range d.levels {
		section := v.get(level)
		if !c.typed(section, dict, level, id, "Give each file a name: `table: output/table.csv`.") {
			fit = false
			continue
		}
		for _, pair := range section.pairs {
			name, pattern := pair.key, pair.value
			if pattern.kind != str {
				c.at(placeOf(pattern, name), RuleKeyType, fmt.Sprintf("`%s` output for action %s must be a string", name, id), "Write one path, or give each path a name of its own.")
				fit = false
				continue
			}
			if !c.room(pattern, 128+len(pattern.text)) {
				return false
			}
			fit = c.pattern(pattern, level) && fit
			d.Outputs = append(d.Outputs, Output{Level: level, Name: name.name(), Pattern: pattern.text, Line: pattern.line})
			d.patterns = append(d.patterns, pattern)
		}
	}
	return fit
}

// pattern notes the first rule that a pattern breaks. It reports whether the
// reference would have gone on: it lets a path climb out, we do not.
func (c *checker) pattern(v *value, level string) bool {
	fault, hint := patternFault(v.text, level)
	if fault != "" {
		c.at(v, RuleOutputPattern, fmt.Sprintf("Output path %s is invalid: %s", v.text, fault), hint)
		return false
	}
	switch {
	case v.text == ".." || strings.HasPrefix(v.text, "../"):
		c.at(v, RuleOutputClimbs, fmt.Sprintf("Output path %s is invalid: leads out of the study's folder", v.text), "Write a path inside the study, such as output/table.csv.")
	case strings.ContainsRune(v.text, 0):
		c.at(v, RuleOutputPattern, "Output path with a NUL character is invalid: no file can have such a name", "Remove it.")
	}
	return true
}

// patternFault applies the reference's rules for output patterns, in its order.
func patternFault(pattern, level string) (fault, hint string) {
	if strings.Contains(pattern, `\`) {
		return "contains back slashes (use forward slashes only)", "Write `" + strings.ReplaceAll(pattern, `\`, "/") + "`."
	}
	for _, wild := range []string{"**", "?", "["} {
		if strings.Contains(pattern, wild) {
			return fmt.Sprintf("contains '%s' (only the * wildcard character is supported)", wild), "One * stands for any part of one file or folder name."
		}
	}
	suffix := pureSuffix(pattern)
	if suffix == "" || strings.HasSuffix(suffix, "*") {
		return "output paths must have a file type extension at the end", "End the path with the type of the files, such as .csv or *.csv."
	}
	if level == ModeratelySensitive && !slices.Contains(level4Types, suffix) {
		hint := "Allowed are: " + strings.Join(level4Types, " ") + ". Files of other types can be highly_sensitive."
		if lower := strings.ToLower(suffix); slices.Contains(level4Types, lower) {
			hint = fmt.Sprintf("Write the type in lower case: %s. %s", lower, hint)
		}
		return purePath(pattern) + " is not an allowed file type for moderately_sensitive outputs", hint
	}
	if normal := normPath(pattern); normal != pattern {
		return "is not in standard form (contains double slashes or '..' elements)", "Write `" + normal + "`."
	}
	if strings.HasPrefix(pattern, "metadata/") {
		return "should not include the metadata directory", "Logs of actions are kept there. Choose another folder, such as output."
	}
	if strings.HasPrefix(pattern, "/") || windowsAbsolute(pattern) {
		return "is an absolute path", "Write a path inside the study, such as output/table.csv."
	}
	return "", ""
}

// windowsAbsolute reports whether Windows would take the path for absolute: one
// character, a colon, a slash.
func windowsAbsolute(p string) bool {
	runes := []rune(p[:min(len(p), 6)])
	return len(runes) >= 3 && runes[1] == ':' && runes[2] == '/'
}
