package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"sluice/internal/bench"
)

type benchCommand struct {
	Workloads []string `arg:"" optional:"" help:"What to measure: ${workloads}; all but the long ones if none is named."`
	Rounds    int      `help:"Turns of each workload and its baseline; 0 for the workload's own number." short:"n"`
	Size      int      `help:"Jobs in a round, where a workload has many, or seconds of idle; 0 for the workload's own number."`
	Dir       string   `help:"Folder to make a scratch folder in: on the file system to measure. The default is that of temporary files." type:"existingdir"`
	Image     string   `help:"Image of this engine with /bin/sh to make containers of. The default is one made of this machine's static busybox."`
	Up        []string `help:"More flags for the fleet's 'sluice up', such as --up=--no-overlay; SLUICE_* variables reach it too." sep:"none"`
	JSON      bool     `help:"Print the report as JSON."`
}

// Help lists the workloads.
func (cmd *benchCommand) Help() string {
	var b strings.Builder
	b.WriteString("Workloads:\n")
	for _, w := range bench.Workloads() {
		fmt.Fprintf(&b, "\n  %s: %s", w.Name, w.Does)
	}
	return b.String()
}

// Run measures, prints what was measured, and takes everything away.
func (cmd *benchCommand) Run(a *app) error {
	tuneThreads() // the bare programs are in this process
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if cmd.Rounds < 0 || cmd.Size < 0 {
		return usagef("--rounds and --size must not be negative")
	}
	for _, name := range cmd.Workloads {
		if !slices.Contains(bench.Names(), name) {
			return usagef("there is no workload %q; there are %s", name, strings.Join(bench.Names(), ", "))
		}
	}
	progress, done := a.progressLine()
	report, err := bench.Run(a.ctx, bench.Options{
		Program: program, Args: cmd.Up, Dir: cmd.Dir, Image: cmd.Image, Workloads: cmd.Workloads, Rounds: cmd.Rounds, Size: cmd.Size,
		Version: version(), Progress: progress, Log: a.log,
	})
	done()
	if errors.Is(err, context.Canceled) {
		err = exit(ExitCancelled, errors.New("interrupted; what was measured is above, and everything is taken away"))
	}
	if len(report.Rows) == 0 {
		return err
	}
	if cmd.JSON {
		return errors.Join(a.printJSON(report), err)
	}
	return errors.Join(report.Print(a.stdout), err)
}

// progressLine returns what tells a person how far a long command is: one line
// that changes on a terminal, a line each elsewhere.
func (a *app) progressLine() (say func(string), done func()) {
	f, ok := a.stderr.(*os.File)
	if !ok || !isTerminal(f) {
		return func(text string) { fmt.Fprintln(a.stderr, text) }, func() {}
	}
	var mu sync.Mutex
	return func(text string) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(a.stderr, "\r\x1b[K%s", text)
		}, func() {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprint(a.stderr, "\r\x1b[K")
		}
}
