package cli

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"time"

	"sluice/jetstream"
)

type doctorCommand struct {
	natsFlags
	Only []string `help:"Look at these only: git, engine, nats, topology, room, stuck." enum:"git,engine,nats,topology,room,stuck"`
	JSON bool     `help:"Print an object a finding."`
}

// A finding is what the doctor says about one thing.
type finding struct {
	What    string           `json:"what"`
	OK      bool             `json:"ok"`
	Says    string           `json:"says"`
	Streams []jetstream.Fill `json:"streams,omitempty"` // of what is room
}

// Run looks at what a fleet on this machine needs.
func (cmd *doctorCommand) Run(a *app) error {
	ill := 0
	for _, look := range []struct {
		what string
		by   func(*app, *finding) (string, error)
	}{
		{"git", func(a *app, _ *finding) (string, error) { return checkGit(a.ctx) }},
		{"engine", func(a *app, _ *finding) (string, error) { return "the Docker Engine answers", checkEngine(a.ctx) }},
		{"nats", func(a *app, _ *finding) (string, error) { return cmd.checkServer(a) }},
		{"topology", func(a *app, _ *finding) (string, error) { return cmd.checkTopology(a) }},
		{"room", cmd.checkRoom},
		{"stuck", cmd.checkStuck},
	} {
		if len(cmd.Only) > 0 && !slices.Contains(cmd.Only, look.what) {
			continue
		}
		f := finding{What: look.what}
		says, err := look.by(a, &f)
		f.OK, f.Says = err == nil, says
		if err != nil {
			ill++
			f.Says = err.Error()
		}
		if err := cmd.print(a, f); err != nil {
			return err
		}
	}
	if ill > 0 {
		return exit(ExitOurs, nil)
	}
	return nil
}

func (cmd *doctorCommand) print(a *app, f finding) error {
	switch {
	case cmd.JSON:
		return a.printJSON(f)
	case !f.OK:
		fmt.Fprintf(a.stderr, "%s: %s\n", f.What, f.Says)
	case len(cmd.Only) == 0:
		fmt.Fprintf(a.stdout, "%s: %s\n", f.What, f.Says)
	}
	return nil
}

func checkGit(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", "version").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", errors.New("there is no git here: install it (Debian: apt-get install git)")
	}
	if err != nil {
		return "", fmt.Errorf("git does not run: %w", err)
	}
	return string(out[:max(len(out)-1, 0)]), nil
}

func (cmd *doctorCommand) checkServer(a *app) (string, error) {
	c, err := cmd.client(a)
	if err != nil {
		return "", err
	}
	c.Close()
	return "the NATS server answers, and is new enough", nil
}

func (cmd *doctorCommand) checkTopology(a *app) (string, error) {
	c, err := cmd.client(a)
	if err != nil {
		return "", errors.New("cannot be looked at without the server")
	}
	defer c.Close()
	diffs, err := c.Check(a.ctx, jetstream.Topology{Replicas: 1, Store: defaultStore})
	if err != nil {
		return "", err
	}
	missing := 0
	for _, d := range diffs {
		if d.Have == "missing" {
			missing++
		}
	}
	if missing > 0 {
		return "", fmt.Errorf("%d streams, registers or consumers are missing: run `sluice topology --apply`", missing)
	}
	return "all streams and registers are there", nil
}

// checkRoom says how full the streams and registers are.
func (cmd *doctorCommand) checkRoom(a *app, f *finding) (string, error) {
	c, err := cmd.client(a)
	if err != nil {
		return "", errors.New("cannot be looked at without the server")
	}
	defer c.Close()
	if f.Streams, err = c.Fills(a.ctx); err != nil {
		return "", err
	}
	var taken, warnings []string
	for _, s := range f.Streams {
		taken = append(taken, fmt.Sprintf("%s %d %%", s.Name, s.Percent))
		if s.Warning != "" {
			warnings = append(warnings, s.Warning)
		}
	}
	all := strings.Join(taken, ", ") + " full"
	if len(warnings) > 0 {
		return "", fmt.Errorf("%s\n`sluice topology --apply --store` gives all streams more; they are %s", strings.Join(warnings, "\n"), all)
	}
	return all, nil
}
