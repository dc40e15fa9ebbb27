package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sluice/planner/project"
)

type checkCommand struct {
	File string `arg:"" optional:"" default:"project.yaml" help:"Project file, or - for standard input."`
	JSON bool   `help:"Print what was understood, or all errors, as one object."`
}

// Run validates a project file: exit code 0 if it is valid, 2 if not.
func (cmd *checkCommand) Run(a *app) error {
	name, data, err := readInput(a, cmd.File)
	if err != nil {
		return err
	}
	report := project.Check(name, data)
	if cmd.JSON {
		if err := a.printJSON(report); err != nil {
			return err
		}
	} else if err := cmd.show(a, report); err != nil {
		return err
	}
	if !report.Valid {
		return exit(ExitUsage, nil)
	}
	return nil
}

func (cmd *checkCommand) show(a *app, report project.Report) error {
	text := report.Text()
	if !report.Valid {
		_, err := fmt.Fprint(a.stderr, text)
		return err
	}
	if _, err := fmt.Fprint(a.stderr, text); err != nil { // warnings
		return err
	}
	_, err := fmt.Fprintf(a.stdout, "%s is valid: %d actions\n", cmd.File, len(report.AllActions))
	return err
}

// readInput reads a file, or standard input for "-", up to what a project file
// may have.
func readInput(a *app, file string) (name string, data []byte, err error) {
	if file == "-" {
		data, err = io.ReadAll(io.LimitReader(a.stdin, maxProject))
		return "standard input", data, err
	}
	if info, err := os.Stat(file); err == nil && info.IsDir() {
		file = filepath.Join(file, "project.yaml")
	}
	data, err = readProject(file)
	if err != nil {
		return "", nil, exit(ExitUsage, detail(err))
	}
	return file, data, nil
}
