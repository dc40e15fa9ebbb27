package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/jetstream"
)

// settled waits until nothing is on its way any more: no message, container,
// mount, staging, journal entry or temporary file is left.
func (f *fleet) settled(ctx context.Context) error {
	f.log.say("what is on its way comes to rest")
	err := await(ctx, 5*time.Minute, func() error {
		return errors.Join(f.messagesLeft(ctx), f.filesLeft(), f.containersLeft(ctx, true))
	})
	if err != nil {
		return fmt.Errorf("the fleet does not come to rest %w", err)
	}
	n, err := f.conn.Count(ctx, jetstream.Advisories, "")
	if err != nil {
		return err
	}
	if n > 0 {
		return fmt.Errorf("%d advisories of the server: %s", n, f.nats(ctx, "stream", "get", jetstream.Advisories, "1"))
	}
	var letters []error
	err = f.conn.DeadLetters(ctx, func(l jetstream.DeadLetter) {
		letters = append(letters, fmt.Errorf("a dead letter, from %s on %s: %s", l.By, l.Subject, l.Reason))
	})
	return errors.Join(append(letters, err)...)
}

// queues are the durable consumers of a fleet of one backend.
var queues = [][2]string{
	{jetstream.Requests, jetstream.PlannerConsumer}, {jetstream.Events, jetstream.PlannerConsumer},
	{jetstream.Actions, jetstream.WorkerConsumer(backend, "default")}, {jetstream.Files, jetstream.PersisterConsumer(backend)},
}

// messagesLeft reports messages that somebody has to do something with yet.
func (f *fleet) messagesLeft(ctx context.Context) error {
	var errs []error
	for _, q := range queues {
		text := f.nats(ctx, "consumer", "info", q[0], q[1], "--json")
		var info struct {
			Pending    *uint64 `json:"num_pending"`
			AckPending int     `json:"num_ack_pending"`
		}
		if err := json.Unmarshal([]byte(text), &info); err != nil || info.Pending == nil {
			errs = append(errs, fmt.Errorf("consumer %s of %s: %s", q[1], q[0], text))
			continue
		}
		if *info.Pending+uint64(info.AckPending) > 0 {
			errs = append(errs, fmt.Errorf("consumer %s of %s: %d messages wait, %d are not acknowledged", q[1], q[0], *info.Pending, info.AckPending))
		}
	}
	for _, stream := range []string{jetstream.Actions, jetstream.Files} {
		if n, err := f.conn.Count(ctx, stream, ""); err != nil || n > 0 {
			errs = append(errs, fmt.Errorf("stream %s holds %d messages (%w)", stream, n, err))
		}
	}
	return errors.Join(errs...)
}

// nats is the stock command line, as the administrator.
func (f *fleet) nats(ctx context.Context, args ...string) string {
	cmd := exec.CommandContext(ctx, filepath.Join(f.bin, "nats"), append([]string{"--server", strings.Join(f.client, ","), "--user", "admin", "--password", password}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+f.path("nats-cli"))
	out, err := cmd.Output()
	if err != nil {
		return fmt.Sprintf("%v: %s", err, out)
	}
	return string(out)
}

// filesLeft reports what should be gone from the disk.
func (f *fleet) filesLeft() error {
	var errs []error
	for _, dir := range []string{"staging", "worker-0/journal", "worker-1/journal", "worker-2/journal", "high/.sluice/journal", "high/.sluice/tmp", "medium/.sluice/tmp"} {
		err := filepath.WalkDir(f.path(dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || path == f.path(dir) || emptyFile(d) {
				return err
			}
			errs = append(errs, fmt.Errorf("%s is left", path))
			return filepath.SkipDir
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		return err
	}
	defer mounts.Close()
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); strings.Contains(lines.Text(), f.dir) && !slices.Contains(f.mounted, fields[1]) {
			errs = append(errs, fmt.Errorf("a mount is left: %s", lines.Text()))
		}
	}
	return errors.Join(errs...)
}

// emptyFile reports whether something is a file like those of a worker's journal
// that speak of no attempt.
func emptyFile(d fs.DirEntry) bool {
	info, err := d.Info()
	return err == nil && info.Mode().IsRegular() && info.Size() == 0
}

// containersLeft reports containers of this fleet's workers. Those that were
// started in advance are there as long as their worker is.
func (f *fleet) containersLeft(ctx context.Context, parked bool) error {
	out, err := exec.CommandContext(ctx, "docker", "ps", "-a", "--format", `{{.Label "sluice.worker"}} {{.Names}} {{.Status}} parked={{.Label "sluice.parked"}}`).Output()
	if err != nil {
		return fmt.Errorf("docker ps: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, f.worker(0)[:len(f.worker(0))-1]) && !(parked && !strings.HasSuffix(line, "parked=\n")) {
			errs = append(errs, fmt.Errorf("a container is left: %s", strings.TrimSpace(line)))
		}
	}
	return errors.Join(errs...)
}

// leftBehind reports what is left when every process has ended.
func (f *fleet) leftBehind() error {
	return errors.Join(f.filesLeft(), f.containersLeft(context.Background(), false))
}

// describe tells where the jobs are that have not ended, and what is queued.
func (f *fleet) describe(ctx context.Context) error {
	ps, err := f.sluice(ctx, "ps")
	if err != nil {
		return fmt.Errorf("sluice ps: %w: %s", err, ps)
	}
	return errors.Join(fmt.Errorf("sluice ps:\n%s", ps), f.messagesLeft(ctx), f.filesLeft(), f.containersLeft(ctx, true))
}

// cleanUp takes away what a run that failed has left on this machine: only what
// bears its names.
func cleanUp(prefix, dir string) {
	run := func(name string, args ...string) string {
		out, err := exec.Command(name, args...).Output()
		if err != nil {
			fmt.Fprintf(os.Stderr, "chaos: %s %v: %v\n", name, args, err)
		}
		return string(out)
	}
	for _, name := range []string{"awk:v1", "sh:v1"} {
		for _, id := range strings.Fields(run("docker", "ps", "-aq", "--filter", "ancestor="+prefix+name)) {
			run("docker", "rm", "-f", id)
		}
		run("docker", "image", "rm", "-f", prefix+name)
	}
	mounts, _ := os.ReadFile("/proc/self/mounts") // nothing to do if it cannot be read
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir) {
			run("umount", "-l", fields[1])
		}
	}
}
