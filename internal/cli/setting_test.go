package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/jetstream"
	"sluice/messages"
)

// settingOf reads a backend's setting.
func settingOf(t *testing.T, c *jetstream.Conn, backend string) *messages.Setting {
	t.Helper()
	e, err := c.SettingsRegister().Get(t.Context(), messages.SettingKey(backend))
	if err != nil {
		t.Fatal(err)
	}
	return e.Value
}

// does runs a command line that must end so, with a text in its output.
func does(t *testing.T, want int, says string, args ...string) string {
	t.Helper()
	code, stdout, stderr := invoke("", args...)
	if code != want || !strings.Contains(stdout+stderr, says) {
		t.Errorf("sluice %s: exit code %d, want %d; want %q in:\n%s%s", strings.Join(args, " "), code, want, says, stdout, stderr)
	}
	return stdout
}

func TestSwitches(t *testing.T) {
	c := fleetFor(t)
	t.Setenv("BACKEND", "test")
	t.Setenv("SUDO_USER", "ada")

	does(t, ExitOK, "test: paused since 2", "pause", "--reason", "new disks")
	s := settingOf(t, c, "test")
	if s.Paused == nil || s.Paused.By != "ada" || s.Paused.Reason != "new disks" {
		t.Errorf("setting: %+v", s.Paused)
	}
	does(t, ExitOK, `"changed":false`, "pause", "--json")
	does(t, ExitOK, "database maintenance since", "maintenance", "on")
	does(t, ExitOK, "sluice maintenance off", "resume")
	if s = settingOf(t, c, "test"); s.Paused != nil || s.Maintenance == nil {
		t.Errorf("after resume: %+v", s)
	}
	does(t, ExitOK, "a person has switched it on", "maintenance", "off", "--scheduled")
	does(t, ExitOK, "nothing is set", "maintenance", "off")
	does(t, ExitOK, "database maintenance", "maintenance", "on", "--scheduled")
	does(t, ExitOK, "nothing is set", "maintenance", "off", "--scheduled")
	does(t, ExitUsage, `no backend "tset"; it has: other, test`, "pause", "--backend", "tset")
	does(t, ExitUsage, "must be one of", "maintenance", "maybe")
}

// TestChangesMeet: whoever changes a setting changes only what he is about.
func TestChangesMeet(t *testing.T) {
	c := fleetFor(t)
	var all sync.WaitGroup
	for i := range 5 {
		all.Go(func() {
			_, _, err := changeSetting(t.Context(), c, "test", func(s *messages.Setting) error {
				if s.Limits == nil {
					s.Limits = map[string]float64{}
				}
				s.Limits[fmt.Sprintf("p%d", i)] = 1
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(settingOf(t, c, "test").Limits); n != 5 {
		t.Errorf("%d of 5 changes are there", n)
	}
}

func TestReboot(t *testing.T) {
	c := fleetFor(t)
	t.Setenv("BACKEND", "test")
	j := &messages.Job{
		ID: messages.NewJobID("r", "a"), Request: "r", Backend: "test", Workspace: "ws", Action: "a", Pool: "default", Weight: 1, Image: "r:v1", Run: "r:v1",
		Source:  messages.Source{Repo: "https://github.com/opensafely/study", Commit: strings.Repeat("a", 40)},
		Attempt: 1, State: messages.Running, Code: messages.Executing, Worker: "w1",
	}
	revision, err := c.JobsRegister().Create(t.Context(), messages.JobKey("test", "ws", j.ID), j)
	if err != nil {
		t.Fatal(err)
	}
	lease := messages.LeaseKey("test", j.ID, 1)
	held, err := c.LeasesRegister().Create(t.Context(), lease, &messages.Lease{State: messages.LeaseHeld, Owner: "w1", Nonce: "n", Weight: 1, Pool: "default"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	does(t, ExitOurs, "is not prepared", "reboot", "--status")
	does(t, ExitOK, "running jobs are stopped", "reboot")
	does(t, ExitOurs, "1 jobs still have containers", "reboot", "--status")
	does(t, ExitTimeout, "", "reboot", "--wait", "--timeout", "1ms")

	j.State, j.Code = messages.Pending, messages.WaitingOnReboot // as the planner does
	if _, err := c.JobsRegister().Update(t.Context(), messages.JobKey("test", "ws", j.ID), j, revision); err != nil {
		t.Fatal(err)
	}
	does(t, ExitOurs, "1 jobs still have containers", "reboot", "--status")
	go func() { // and then the worker
		_, err := c.LeasesRegister().Update(t.Context(), lease, &messages.Lease{State: messages.LeaseReleased, Owner: "w1", Nonce: "n", Weight: 1, Pool: "default"}, held, time.Hour)
		if err != nil {
			t.Error(err)
		}
	}()
	does(t, ExitOK, safe, "reboot", "--wait", "--timeout", "1m")
	does(t, ExitOK, safe, "reboot", "--status")
	does(t, ExitOK, "nothing is set", "resume")
}

func TestDrainCommand(t *testing.T) {
	c := fleetFor(t)
	t.Setenv("BACKEND", "test")
	does(t, ExitUsage, "no worker w1 lives at test", "drain", "w1")
	p := &messages.Presence{Worker: "w1", Backend: "test", Pools: map[string]messages.Slots{"default": {Total: 1, Used: 1}}}
	announce := func(draining bool) {
		p.Draining = draining
		if err := c.Announce(context.WithoutCancel(t.Context()), p, time.Minute); err != nil {
			t.Error(err)
		}
	}
	announce(false)
	does(t, ExitTimeout, "1 workers have not done so", "drain", "w1", "--timeout", "1ms")
	ctx, stop := context.WithCancel(t.Context())
	listening := make(chan struct{})
	go func() { // a worker
		defer close(listening)
		_ = jetstream.Controls{Conn: c, Backend: "test", Worker: "w1"}.Listen(ctx, func(m *messages.Control) { announce(m.Kind == messages.ControlDrain) })
	}()
	// The control message may come before the worker listens; the planner says it
	// again then. Here the command does.
	for says := ""; !strings.Contains(says, "takes nothing new; 1 slots are still used"); {
		_, says, _ = invoke("", "drain", "w1", "--timeout", "1s")
	}
	if diff := cmp.Diff([]string{"w1"}, settingOf(t, c, "test").Drain); diff != "" {
		t.Error(diff)
	}
	does(t, ExitOK, "w1: takes actions", "drain", "w1", "--off", "--timeout", "1m")
	does(t, ExitOK, "nothing is set", "drain", "nosuch", "--off", "--timeout", "1m")
	stop()
	<-listening
}

func TestFlags(t *testing.T) {
	c := fleetFor(t)
	t.Setenv("BACKEND", "test")
	weights := filepath.Join(t.TempDir(), "weights.ini")
	if err := os.WriteFile(weights, []byte("[ws]\nmodel_.* = 2.5\n[default]\n.*stata.* = 4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	does(t, ExitOK, "pool db is limited to 4 slots", "flags", "set", "paused=true", "manual-db-maintenance=on", "pool-limit.db=4", "cpus=3", "memory=8G", "disk=1T", "processes=100",
		"time-limit=36h", "drain=w2,w1", "disclosure=patterns,exit_code", "weights=@"+weights)
	want := &messages.Setting{
		Drain: []string{"w1", "w2"}, Limits: map[string]float64{"db": 4}, Disclosure: []string{"exit_code", "patterns"},
		JobLimits: messages.Limits{CPUs: 3, Memory: 8 << 30, Disk: 1 << 40, Processes: 100, Time: 36 * time.Hour},
		Weights:   []messages.Weight{{Workspace: "ws", Pattern: "model_.*", Slots: 2.5}, {Workspace: "default", Pattern: ".*stata.*", Slots: 4}},
	}
	got := settingOf(t, c, "test")
	if got.Paused == nil || got.Maintenance == nil || !got.Maintenance.Manual {
		t.Errorf("switches: %+v, %+v", got.Paused, got.Maintenance)
	}
	got.Paused, got.Maintenance, got.Envelope = nil, nil, messages.Envelope{}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("setting (-want +got):\n%s", diff)
	}
	table := does(t, ExitOK, "manual-db-maintenance", "flags")
	for _, line := range []string{"paused", "pool-limit.db", "time-limit", "36h0m0s", "2 rules"} {
		if !strings.Contains(table, line) {
			t.Errorf("flags: no %s in\n%s", line, table)
		}
	}
	if one := does(t, ExitOK, "8589934592", "flags", "get", "memory"); strings.Contains(one, "cpus") {
		t.Errorf("flags get memory: %s", one)
	}
	var object struct {
		Backend string
		Setting messages.Setting
	}
	if err := json.Unmarshal([]byte(does(t, ExitOK, "", "flags", "get", "--json")), &object); err != nil || object.Backend != "test" || object.Setting.Limits["db"] != 4 {
		t.Errorf("flags get --json: %+v, %v", object, err)
	}
	for says, value := range map[string]string{
		"there is no flag": "nosuch=1", "is not NAME=VALUE": "paused", "is not true": "paused=perhaps", "sluice: the limit of pool db is 0; it must be above zero": "pool-limit.db=0", "invalid syntax": "cpus=many",
		"cannot be disclosed": "disclosure=everything", "is not @ and a file's name": "weights=x", "is not a size": "memory=lots", "invalid pool name": "pool-limit.D B=1",
	} {
		does(t, ExitUsage, says, "flags", "set", "mode=", value)
	}
	does(t, ExitOK, "nothing is set", "flags", "set", "paused=", "manual-db-maintenance=", "pool-limit.db=", "cpus=", "memory=", "disk=", "processes=", "time-limit=", "drain=", "disclosure=", "weights=")
}
