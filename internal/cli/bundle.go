package cli

import (
	"archive/zip"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

type bundleCommand struct {
	jobFlags
	Output string `short:"o" help:"File to write; the default is sluice-<job>.zip here. It must not be there." type:"path"`
	NoLog  bool   `help:"Leave out what the action printed."`
	JSON   bool   `help:"Print {\"file\", \"bytes\", \"parts\"}."`
}

// Bounds of a bundle, in bytes.
const (
	maxBundleEvents = 4 << 20
	maxBundleLog    = 8 << 20 // the newest part of each attempt's log
)

// Run packs what the registers and streams say about a job. Nothing of it is a
// secret of the fleet: those are never in a message. But names of files and
// what the action printed are of the study's data: it stays inside.
func (cmd *bundleCommand) Run(a *app) (err error) {
	c, j, err := cmd.open(a)
	if err != nil {
		return err
	}
	defer c.Close()
	if cmd.Output == "" {
		cmd.Output = "sluice-" + string(j.ID) + ".zip"
	}
	f, err := os.OpenFile(cmd.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return usagef("%s is there already: name another file with --output", cmd.Output)
	}
	if err != nil {
		return fmt.Errorf("write the bundle: %w", err)
	}
	b := &bundle{zip: zip.NewWriter(f), at: time.Now()}
	err = errors.Join(cmd.fill(a, c, b, j), b.zip.Close(), f.Close())
	if err != nil {
		return errors.Join(fmt.Errorf("write the bundle: %w", err), os.Remove(cmd.Output))
	}
	info, err := os.Stat(cmd.Output)
	if err != nil {
		return err
	}
	if cmd.JSON {
		return a.printJSON(map[string]any{"file": cmd.Output, "bytes": info.Size(), "parts": b.parts})
	}
	fmt.Fprintf(a.stdout, "%s: %d parts, %d bytes; it has names of files and what the action printed: keep it inside\n", filepath.Base(cmd.Output), len(b.parts), info.Size())
	return nil
}

// fill writes the parts.
func (cmd *bundleCommand) fill(a *app, c *jetstream.Conn, b *bundle, j *messages.Job) error {
	d, err := readDossier(a.ctx, c, j)
	if err != nil {
		return err
	}
	if err := b.json("dossier.json", d); err != nil {
		return err
	}
	text := ""
	for _, line := range d.lines(b.at) {
		text += line + "\n"
	}
	if err := b.part("explain.txt", []byte(text)); err != nil {
		return err
	}
	token, job := messages.Token(j.Backend), messages.Token(string(j.ID))
	for _, s := range []struct{ name, stream, subject string }{
		{"history.jsonl", "KV_" + jetstream.Jobs, "$KV." + jetstream.Jobs + "." + messages.JobKey(j.Backend, j.Workspace, j.ID)},
		{"events.jsonl", jetstream.Events, messages.Prefix + ".event.*." + token + ".*." + job + ".>"},
		{"outcomes.jsonl", jetstream.Outcomes, (&messages.Outcome{Backend: j.Backend, Request: j.Request}).Subject()},
		{"dead.jsonl", jetstream.Dead, messages.DeadSubjectOf(j.Backend, j.Workspace, string(j.ID))},
	} {
		lines, err := stored(a, c, s.stream, s.subject, maxBundleEvents)
		if err == nil {
			err = b.part(s.name, lines)
		}
		if err != nil {
			return err
		}
	}
	for attempt := 1; attempt <= j.Attempt && !cmd.NoLog; attempt++ {
		log, err := storedLog(a, c, messages.LogSubject(j.Backend, j.ID, attempt))
		if err == nil {
			err = b.part(fmt.Sprintf("log-%d.txt", attempt), log)
		}
		if err != nil {
			return err
		}
	}
	return b.json("versions.json", map[string]any{"sluice": version(), "made_at": b.at.UTC(), "by": operator()})
}

// A bundle is a zip file in the making.
type bundle struct {
	zip   *zip.Writer
	at    time.Time
	parts []string
}

func (b *bundle) part(name string, data []byte) error {
	if len(data) == 0 {
		return nil
	}
	b.parts = append(b.parts, name)
	w, err := b.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: b.at})
	if err == nil {
		_, err = w.Write(data)
	}
	return err
}

func (b *bundle) json(name string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return b.part(name, append(data, '\n'))
}

// stored returns the messages of a stream on a subject, the newest that fit, a
// line each with its subject and time.
func stored(a *app, c *jetstream.Conn, stream, subject string, limit int) ([]byte, error) {
	var lines []byte
	err := past(a, c, stream, subject, func(f jetstream.Followed) {
		body := json.RawMessage(f.Data)
		if !json.Valid(f.Data) {
			body, _ = json.Marshal(string(f.Data)) // strings can always be encoded
		}
		line, err := json.Marshal(map[string]any{"subject": f.Subject, "at": f.At, "sequence": f.Sequence, "message": body})
		if err != nil {
			return
		}
		lines = append(append(lines, line...), '\n')
		if len(lines) > 2*limit {
			lines = lines[len(lines)-limit:]
		}
	})
	return lines[max(len(lines)-limit, 0):], err
}

func storedLog(a *app, c *jetstream.Conn, subject string) ([]byte, error) {
	var log []byte
	err := past(a, c, jetstream.Logs, subject, func(f jetstream.Followed) {
		var chunk messages.LogChunk
		if messages.Decode(f.Data, &chunk) == nil {
			log = append(log, chunk.Text...)
		}
		if len(log) > 2*maxBundleLog {
			log = log[len(log)-maxBundleLog:]
		}
	})
	return log[max(len(log)-maxBundleLog, 0):], err
}

// past hands over what a stream holds now on a subject.
func past(a *app, c *jetstream.Conn, stream, subject string, handle func(jetstream.Followed)) error {
	n, err := c.Count(a.ctx, stream, subject)
	if err != nil || n == 0 {
		return err
	}
	return c.Follow(a.ctx, stream, subject, jetstream.Start{}, func(f jetstream.Followed) bool {
		handle(f)
		return f.Pending > 0
	})
}
