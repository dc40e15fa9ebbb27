package cli

import (
	"context"
	"os"

	"golang.org/x/term"

	"sluice/internal/progress"
)

// outputFlags choose how progress is shown.
type outputFlags struct {
	JSON   bool `help:"Print an object a line, for scripts."`
	GitHub bool `name:"format-output-for-github" help:"Fold logs as GitHub Actions does."`
}

// printer returns the printer that fits the flags and the terminal. Stop must
// be called when all is printed.
func (f outputFlags) printer(a *app) (p progress.Printer, stop func()) {
	out, file := a.stdout.(*os.File)
	switch {
	case f.JSON:
		return progress.JSON{W: a.stdout}, func() {}
	case !file || !isTerminal(out) || f.GitHub || os.Getenv("CI") != "" || os.Getenv("TERM") == "dumb":
		return &progress.Lines{W: a.stdout, Colour: file && colours(out), GitHub: f.GitHub}, func() {}
	}
	live := progress.NewLive(out, colours(out), func() int {
		width, _, err := term.GetSize(int(out.Fd()))
		if err != nil || width < 20 {
			return 80
		}
		return width
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); live.Run(ctx) }()
	return live, func() { cancel(); <-done }
}
