// Package cli is the command line: one file a command. It is the only place
// that builds services, hands them their dependencies, and runs them.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/rs/zerolog"

	"sluice/internal/bench"
	"sluice/internal/fault"
)

// Exit codes: an interface, documented in docs/commands.md.
const (
	ExitOK        = 0
	ExitOurs      = 1 // a fault of the machine, the fleet or of Sluice
	ExitUsage     = 2 // the command line, a request or a project file is wrong
	ExitFailed    = 3 // an action failed
	ExitCancelled = 4 // cancelled, or interrupted
	ExitTimeout   = 5 // waiting took longer than was allowed
)

// An exitError ends the program with a code. Its error is printed unless nil.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func exit(code int, err error) error { return &exitError{code, err} }

func usagef(format string, args ...any) error { return exit(ExitUsage, fmt.Errorf(format, args...)) }

// commands is the whole command line.
type commands struct {
	Run    runCommand    `cmd:"" help:"Run a study's actions here, in its folder, with nothing else to set up."`
	Check  checkCommand  `cmd:"" help:"Validate a project file: every error at once, with line and column."`
	Graph  graphCommand  `cmd:"" help:"Print a project's graph as text, Mermaid or SVG."`
	Submit submitCommand `cmd:"" help:"Publish a request for actions of a repository."`
	Cancel cancelCommand `cmd:"" help:"Cancel a request, or some of its actions."`
	Status statusCommand `cmd:"" help:"Show the jobs of a request or a workspace, and why each is where it is."`
	Logs   logsCommand   `cmd:"" help:"Print the log of a job; -f follows it."`
	Ps     psCommand     `cmd:"" help:"Show workers, queues and running jobs of the fleet."`
	operatorCommands
	Up        upCommand        `cmd:"" help:"Run a whole fleet in one process: server, planner, worker, persister."`
	Planner   plannerCommand   `cmd:"" help:"Run a planner."`
	Worker    workerCommand    `cmd:"" help:"Run a worker."`
	Persister persisterCommand `cmd:"" help:"Run a persister."`
	Gateway   gatewayCommand   `cmd:"" help:"Serve the RAP API to a job server that speaks HTTP only, or poll one."`
	Topology  topologyCommand  `cmd:"" help:"Show, check or provision the streams and registers on the server."`
	Dead      deadCommand      `cmd:"" help:"Look at dead letters, and put them back."`
	Bench     benchCommand     `cmd:"" help:"Measure this machine's fleet against bare calls doing the same work."`
	BenchRun  benchRunCommand  `cmd:"" name:"bench-fleet" hidden:""`
	Doctor    doctorCommand    `cmd:"" help:"Say what is missing on this machine, and the command that mends it."`

	LogLevel string           `help:"Least level of log lines: debug, info, warn, error." default:"info" enum:"debug,info,warn,error" env:"SLUICE_LOG_LEVEL"`
	Version  kong.VersionFlag `help:"Print the version."`
}

// An app is what a command runs with: where it writes, and how it is stopped.
type app struct {
	ctx    context.Context // ends at the first SIGINT or SIGTERM
	abort  <-chan struct{} // closed at the second
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	log    zerolog.Logger
}

// Main runs the command line of this process and exits.
func Main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	abort, forget := watchSignals(stop)
	defer forget()
	a := &app{ctx: ctx, abort: abort, stdin: stdin, stdout: stdout, stderr: stderr}

	var cmds commands
	exited := -1
	parser, err := kong.New(&cmds,
		kong.Name("sluice"),
		kong.Description("Run study pipelines next to data that must not leave the building.\n\nExit codes: 0 done, 1 a fault of ours, 2 bad usage or project file, 3 an action failed, 4 cancelled, 5 timed out waiting."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"version": version(), "workloads": strings.Join(bench.Names(), ", "), "images": strings.Join(upstreamNames, ",")},
		kong.Writers(stdout, stderr),
		kong.Exit(func(code int) { exited = code }),
	)
	if err != nil {
		panic(err) // the structs above are wrong: found by any test
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if exited >= 0 {
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "sluice: %v (try \"sluice --help\")\n", err)
		return ExitUsage
	}
	a.log = newLogger(stderr, cmds.LogLevel)
	return a.report(parsed.Run(a))
}

// stopped drops a service's error when it is that the service was told to stop:
// also while it starts, to stop is to end well.
func (a *app) stopped(err error) error {
	if a.ctx.Err() == nil || err == nil {
		return err
	}
	if errors.Is(err, context.Canceled) {
		a.log.Info().Err(err).Msg("stopped before it had started")
		return nil
	}
	return err
}

// report prints an error for its reader and turns it into an exit code.
func (a *app) report(err error) int {
	if err == nil {
		return ExitOK
	}
	code := ExitOurs
	var coded *exitError
	if errors.As(err, &coded) {
		code, err = coded.code, coded.err
	}
	if err != nil {
		fmt.Fprintf(a.stderr, "sluice: %s\n", strings.TrimSpace(err.Error()))
	}
	return code
}

// watchSignals stops at the first SIGINT or SIGTERM; the channel that it
// returns is closed at the second. A third ends the process.
func watchSignals(stop func()) (abort <-chan struct{}, forget func()) {
	signals, second, done := make(chan os.Signal, 3), make(chan struct{}), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		for _, do := range []func(){stop, func() { close(second) }, func() { os.Exit(ExitCancelled) }} {
			select {
			case <-signals:
				do()
			case <-done:
				return
			}
		}
	}()
	return second, func() { signal.Stop(signals); close(done) }
}

func newLogger(w io.Writer, level string) zerolog.Logger {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		parsed = zerolog.InfoLevel
	}
	if f, ok := w.(*os.File); ok && isTerminal(f) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05", NoColor: !colours(f)}
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger()
}

// version is the module's version, or the commit that was built.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	if fault.Built {
		v += " (with fault points: for tests only)"
	}
	return v
}

// printJSON writes one JSON value and a newline.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
