package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"sluice/internal/progress"
	"sluice/messages"
)

type flagsCommand struct {
	Get flagsGet `cmd:"" default:"withargs" help:"Show what is set for backends."`
	Set flagsSet `cmd:"" help:"Set names for a backend; NAME= takes one back."`
}

type flagsGet struct {
	natsFlags
	Names   []string `arg:"" optional:"" help:"Names; all that are set if none is named."`
	Backend string   `help:"Only this backend." env:"BACKEND"`
	JSON    bool     `help:"Print {\"backend\", \"setting\"}, an object a backend."`
}

// Run shows settings.
func (cmd *flagsGet) Run(a *app) error {
	for _, name := range cmd.Names {
		if _, _, ok := settableOf(name); !ok {
			return unknownFlag(name)
		}
	}
	c, err := cmd.client(a)
	if err != nil {
		return err
	}
	defer c.Close()
	known, err := c.Backends(a.ctx)
	if err != nil {
		return err
	}
	settings, err := readSettings(a.ctx, c, "")
	if err != nil {
		return err
	}
	for _, b := range known {
		if settings[b] == nil {
			settings[b] = &messages.Setting{}
		}
	}
	tw := tabwriter.NewWriter(a.stdout, 0, 4, 2, ' ', 0)
	if !cmd.JSON {
		fmt.Fprintln(tw, "BACKEND\tNAME\tVALUE")
	}
	for _, b := range sortedKeys(settings) {
		switch {
		case cmd.Backend != "" && b != cmd.Backend:
		case cmd.JSON:
			if err := a.printJSON(map[string]any{"backend": b, "setting": settings[b]}); err != nil {
				return err
			}
		default:
			for _, f := range flagValues(settings[b]) {
				if len(cmd.Names) == 0 || slices.Contains(cmd.Names, f[0]) {
					fmt.Fprintf(tw, "%s\t%s\t%s\n", b, f[0], progress.Clean(f[1]))
				}
			}
		}
	}
	return tw.Flush()
}

// flagValues lists the names that are set, with their values.
func flagValues(s *messages.Setting) (list [][2]string) {
	for _, f := range settables {
		values := f.get(s)
		for _, rest := range sortedKeys(values) {
			list = append(list, [2]string{f.name + rest, values[rest]})
		}
	}
	return list
}

type flagsSet struct {
	settingFlags
	Values []string `arg:"" help:"NAME=VALUE …"`
}

// Help lists the names.
func (cmd *flagsSet) Help() string {
	var b strings.Builder
	b.WriteString("Names:\n")
	for _, f := range settables {
		name := f.name
		if strings.HasSuffix(name, ".") {
			name += "POOL"
		}
		fmt.Fprintf(&b, "\n  %s: %s", name, f.help)
	}
	return b.String()
}

// Run sets all of the values, or none.
func (cmd *flagsSet) Run(a *app) error {
	c, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = cmd.change(a, c, func(s *messages.Setting) error {
		var errs []error
		for _, pair := range cmd.Values {
			name, value, ok := strings.Cut(pair, "=")
			f, rest, known := settableOf(name)
			switch {
			case !ok:
				errs = append(errs, fmt.Errorf("%s is not NAME=VALUE", messages.Quote(pair)))
			case !known:
				errs = append(errs, unknownFlag(name))
			default:
				if err := f.set(s, rest, value); err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", name, err))
				}
			}
		}
		if len(errs) > 0 {
			return exit(ExitUsage, errors.Join(errs...))
		}
		return nil
	})
	return err
}

func unknownFlag(name string) error {
	return usagef("there is no flag %s; `sluice flags set --help` lists all", messages.Quote(name))
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
