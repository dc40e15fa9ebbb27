package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/internal/progress"
	"sluice/jetstream"
	"sluice/messages"
)

// settingFlags are those of every command that changes a backend's setting.
type settingFlags struct {
	natsFlags
	Backend string `help:"The backend." required:"" env:"BACKEND"`
	JSON    bool   `help:"Print {\"backend\", \"changed\", \"setting\"} as one object."`
}

// open connects, and checks that the backend is one of the fleet: a switch
// under a misspelt name would be obeyed by nobody.
func (f settingFlags) open(a *app) (*jetstream.Conn, error) {
	if err := messages.CheckBackend(f.Backend); err != nil {
		return nil, exit(ExitUsage, err)
	}
	c, err := f.client(a)
	if err != nil {
		return nil, err
	}
	known, err := c.Backends(a.ctx)
	if err == nil && !slices.Contains(known, f.Backend) {
		err = usagef("the fleet has no backend %s; it has: %s", messages.Quote(f.Backend), strings.Join(known, ", "))
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// change changes the backend's setting, and tells what it is now.
func (f settingFlags) change(a *app, c *jetstream.Conn, change func(*messages.Setting) error) (*messages.Setting, error) {
	s, changed, err := changeSetting(a.ctx, c, f.Backend, change)
	if err != nil {
		return nil, err
	}
	if f.JSON {
		return s, a.printJSON(map[string]any{"backend": f.Backend, "changed": changed, "setting": s})
	}
	for _, line := range settingLines(s) {
		fmt.Fprintf(a.stdout, "%s: %s\n", f.Backend, line)
	}
	if len(settingLines(s)) == 0 {
		fmt.Fprintf(a.stdout, "%s: nothing is set\n", f.Backend)
	}
	return s, nil
}

// changeSetting changes a setting by compare-and-set: what others have changed
// meanwhile stays. What changes nothing is not written.
func changeSetting(ctx context.Context, c *jetstream.Conn, backend string, change func(*messages.Setting) error) (s *messages.Setting, changed bool, err error) {
	key := messages.SettingKey(backend)
	for range 10 {
		e, err := c.SettingsRegister().Get(ctx, key)
		if err != nil && !errors.Is(err, messages.ErrNotFound) {
			return nil, false, fmt.Errorf("read the setting of %s: %w", backend, err)
		}
		next := &messages.Setting{}
		if e.Value != nil {
			next = e.Value
		}
		before, err := messages.Encode(next)
		if err != nil {
			return nil, false, fmt.Errorf("the setting of %s: %w", backend, err)
		}
		if err := change(next); err != nil {
			return nil, false, err
		}
		if err := next.Validate(); err != nil {
			return nil, false, exit(ExitUsage, err)
		}
		after, err := messages.Encode(next)
		if err != nil {
			return nil, false, exit(ExitUsage, err)
		}
		if string(before) == string(after) {
			return next, false, nil
		}
		if e.Value == nil {
			_, err = c.SettingsRegister().Create(ctx, key, next)
		} else {
			_, err = c.SettingsRegister().Update(ctx, key, next, e.Revision)
		}
		if err == nil {
			return next, true, nil
		}
		if !errors.Is(err, messages.ErrConflict) {
			return nil, false, fmt.Errorf("write the setting of %s: %w", backend, err)
		}
	}
	return nil, false, fmt.Errorf("write the setting of %s: others change it all the time", backend)
}

// readSettings reads what is set, by backend; of one backend if it is named.
func readSettings(ctx context.Context, c *jetstream.Conn, backend string) (map[string]*messages.Setting, error) {
	settings := map[string]*messages.Setting{}
	err := c.SettingsRegister().All(ctx, "setting."+orStar(backend), func(e messages.Entry[messages.Setting]) {
		if b, err := messages.ParseToken(strings.TrimPrefix(e.Key, "setting.")); err == nil {
			settings[b] = e.Value
		}
	})
	return settings, err
}

// turn sets a switch, or takes it back. One that is on keeps its time, unless
// who set it, or why, is another now.
func turn(sw **messages.Switch, on bool, reason string, manual bool) {
	if !on {
		*sw = nil
		return
	}
	next := &messages.Switch{Since: time.Now().UTC().Truncate(time.Second), By: operator(), Reason: reason, Manual: manual}
	if old := *sw; old != nil && (reason == "" || old.Reason == reason) && old.Manual == manual {
		return
	}
	*sw = next
}

// operator is who types.
func operator() string {
	for _, name := range []string{"SUDO_USER", "USER", "LOGNAME"} {
		if who := os.Getenv(name); who != "" {
			return who
		}
	}
	return ""
}

// settingLines says in words what is set.
func settingLines(s *messages.Setting) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, f := range []struct {
		sw   *messages.Switch
		says string
	}{
		{s.Reboot, "prepared for a reboot"}, {s.Paused, "paused"}, {s.Maintenance, "database maintenance"},
	} {
		if f.sw == nil {
			continue
		}
		text := f.says + " since " + f.sw.Since.UTC().Format(time.RFC3339)
		if f.sw.By != "" {
			text += " by " + progress.Clean(f.sw.By)
		}
		if f.sw.Reason != "" {
			text += ": " + progress.Clean(f.sw.Reason)
		}
		lines = append(lines, text)
	}
	if len(s.Drain) > 0 {
		add("drained workers: %s", strings.Join(s.Drain, ", "))
	}
	for _, pool := range sortedKeys(s.Limits) {
		add("pool %s is limited to %g slots", pool, s.Limits[pool])
	}
	if words := limitWords(s.JobLimits); words != "" {
		add("each job may take %s", words)
	}
	for _, w := range s.Weights {
		add("weight %g: [%s] %s", w.Slots, progress.Clean(w.Workspace), progress.Clean(w.Pattern))
	}
	if len(s.Disclosure) > 0 {
		add("outcomes tell: %s", strings.Join(s.Disclosure, ", "))
	}
	return lines
}

func limitWords(l messages.Limits) string {
	var words []string
	if l.CPUs > 0 {
		words = append(words, fmt.Sprintf("%g processors", l.CPUs))
	}
	if l.Memory > 0 {
		words = append(words, progress.Bytes(l.Memory)+" of memory")
	}
	if l.Processes > 0 {
		words = append(words, fmt.Sprintf("%d processes", l.Processes))
	}
	if l.Disk > 0 {
		words = append(words, progress.Bytes(l.Disk)+" of disk")
	}
	if l.Time > 0 {
		words = append(words, l.Time.String())
	}
	return strings.Join(words, ", ")
}
