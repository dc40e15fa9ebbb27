// Package project understands a study's project.yaml: which actions there
// are, what each runs, needs and outputs, and everything that is wrong with
// the file, at once, each fault with its line and column.
//
//	p, problems := project.Parse(data)   // decode and validate
//	report := project.Check("project.yaml", data)
//	report.Text()                        // for people: sentence, line, caret, hint
//	json.Marshal(report)                 // for machines: sluice check --json
//
// The rules, and the sentences that name a broken one, are those of the
// OpenSAFELY pipeline library, because researchers search for them. What is
// added stands in the hint. Where it crashed or kept silent (cycles, bad
// quoting, future versions, paths that climb out), this package has a sentence
// of its own.
//
// A project file is hostile input. Its size, nesting, number of nodes and the
// work that its aliases cause are bounded, and no file makes Parse panic.
package project
