package cli

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"sluice/jetstream"
)

type topologyCommand struct {
	natsFlags
	Backends []string `help:"Backends of the fleet." default:"test,tpp,emis" env:"BACKENDS"`
	Replicas int      `help:"Copies of each message: 1, or 3 in a cluster." default:"1" env:"SLUICE_REPLICAS"`
	Store    byteSize `help:"What all streams may take together." default:"10G" env:"SLUICE_STORE"`
	Apply    bool     `help:"Make the server's streams, registers and consumers what they should be."`
	Check    bool     `help:"Say what differs on the server; exit code 1 if anything does."`
	JSON     bool     `help:"Print objects."`

	Wait time.Duration `help:"How long --apply and --check wait for a server that does not answer, such as a cluster without a leader; then exit code 5." default:"1m" env:"SLUICE_TOPOLOGY_WAIT"`
}

// Run shows the topology, compares the server with it, or provisions it.
func (cmd *topologyCommand) Run(a *app) error {
	t := jetstream.Topology{Backends: topologyOf(cmd.Backends), Replicas: cmd.Replicas, Store: int64(cmd.Store)}
	if err := t.Validate(); err != nil {
		return exit(ExitUsage, err)
	}
	if !cmd.Apply && !cmd.Check {
		return cmd.show(a, t)
	}
	ctx, cancel := context.WithTimeout(a.ctx, cmd.Wait)
	defer cancel()
	c, err := cmd.connect(ctx, "sluice topology", a.log)
	if err != nil {
		return cmd.late(ctx, err)
	}
	defer c.Close()
	if cmd.Apply {
		if err := c.Provision(ctx, t); err != nil {
			return cmd.late(ctx, err)
		}
		if !cmd.JSON {
			fmt.Fprintf(a.stdout, "the server has all %d streams, registers and consumers\n", len(t.Rows()))
		}
		return nil
	}
	diffs, err := c.Check(ctx, t)
	if err != nil {
		return cmd.late(ctx, err)
	}
	if cmd.JSON {
		if err := a.printJSON(append([]jetstream.Difference{}, diffs...)); err != nil {
			return err
		}
	}
	for _, d := range diffs {
		if !cmd.JSON {
			fmt.Fprintln(a.stdout, d)
		}
	}
	if len(diffs) > 0 {
		return exit(ExitOurs, fmt.Errorf("%d differences; `sluice topology --apply` mends them", len(diffs)))
	}
	if !cmd.JSON {
		fmt.Fprintln(a.stdout, "the server is as it should be")
	}
	return nil
}

// late turns an error that came of waiting for too long into one that says so.
func (cmd *topologyCommand) late(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	return exit(ExitTimeout, fmt.Errorf("%w\nThe server did not do it within %s (--wait). In a cluster more than half of the servers must run, and reach each other, before it has a leader. What was done stays; the command can be repeated", err, cmd.Wait))
}

func (cmd *topologyCommand) show(a *app, t jetstream.Topology) error {
	if cmd.JSON {
		return a.printJSON(t.Rows())
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(tw, "KIND\tNAME\tSUBJECTS\tKEEPS\tWHY")
	for _, r := range t.Rows() {
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Kind, r.Name, r.Subjects, r.Keeps, r.Why)
	}
	return tw.Flush()
}
