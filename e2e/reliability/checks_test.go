package reliability

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/messages"
)

// finished waits until the job server is told that a request has ended, or was
// rejected.
func (f *fleet) finished(id messages.RequestID) {
	subject := (&messages.Outcome{Backend: f.backend, Request: id}).Subject()
	done := false
	err := f.conn.Follow(f.ctx, jetstream.Outcomes, subject, jetstream.Start{}, func(m jetstream.Followed) bool {
		var o messages.Outcome
		if err := messages.Decode(m.Data, &o); err != nil {
			f.errorf("outcome: %v", err)
		}
		done = o.Kind == messages.OutcomeFinished || o.Kind == messages.OutcomeRejected
		return !done
	})
	if err != nil || !done {
		f.fatalf("request %s: its end is not told (%v); the outcomes: %v", id, err, f.outcomes(id))
	}
}

// outcomes are what the job server was told of a request, each once.
func (f *fleet) outcomes(id messages.RequestID) []string {
	subject := (&messages.Outcome{Backend: f.backend, Request: id}).Subject()
	var list []string
	for _, data := range f.messages(jetstream.Outcomes, subject) {
		var o messages.Outcome
		if err := messages.Decode(data, &o); err != nil {
			f.errorf("outcome: %v", err)
		}
		line := string(o.Kind)
		if o.Job != nil {
			line += " " + o.Job.Action + " " + string(o.Job.Code)
		}
		if !slices.Contains(list, line) {
			list = append(list, line)
		}
	}
	return list
}

// messages reads what a stream holds on a subject.
func (f *fleet) messages(stream, subject string) (list [][]byte) {
	s, err := f.js.Stream(f.late, stream)
	if err != nil {
		f.fatalf("%v", err)
	}
	for seq := uint64(1); ; seq++ {
		raw, err := s.GetMsg(f.late, seq, njs.WithGetMsgSubject(subject))
		if err != nil {
			return list
		}
		list, seq = append(list, raw.Data), raw.Sequence
	}
}

// job returns the record of an action's job.
func (f *fleet) job(id messages.RequestID, action string) *messages.Job {
	e, err := f.conn.JobsRegister().Get(f.late, messages.JobKey(f.backend, "ws", messages.NewJobID(id, action)))
	if err != nil {
		f.fatalf("job of %s: %v", action, err)
	}
	return e.Value
}

// wantJobs compares how jobs ended: "code/attempts" by action.
func (f *fleet) wantJobs(id messages.RequestID, want map[string]string) {
	told := f.outcomes(id)
	for action, end := range want {
		j := f.job(id, action)
		if got := fmt.Sprintf("%s/%d", j.Code, j.Attempt); got != end {
			f.errorf("%s ended as %s, want %s (lost: %v)", action, got, end, j.Lost)
		}
		finals := 0
		for _, line := range told {
			kind, rest, _ := strings.Cut(line, " ")
			name, code, _ := strings.Cut(rest, " ")
			if kind == "job" && name == action && messages.Code(code).State().Final() {
				finals++
				if code != string(j.Code) {
					f.errorf("%s was told to have ended as %s, its record says %s", action, code, j.Code)
				}
			}
		}
		if finals != 1 {
			f.errorf("%d ends of %s were told: %v", finals, action, told)
		}
	}
	if !slices.Contains(told, "accepted") || !slices.Contains(told, "finished") {
		f.errorf("what was told of %s: %v", id, told)
	}
}

// Files of the tiers' workspaces, but for metadata.
var (
	highFirst   = map[string]string{"output/rows1.csv": "1\n", "output/rows2.csv": "2\n", "output/rows3.csv": "3\n", "output/table1.csv": "a,1\n", "output/table2.csv": "a,2\n"}
	mediumFirst = map[string]string{"output/table1.csv": "a,1\n", "output/table2.csv": "a,2\n"}
	used        = map[string]string{"output/sums.csv": "1\n2\n3\n"}
	long        = map[string]string{"output/long.csv": "40\n"}
	nothing     = map[string]string{}
)

func and(maps_ ...map[string]string) map[string]string {
	all := map[string]string{}
	for _, m := range maps_ {
		maps.Copy(all, m)
	}
	return all
}

// wantTiers compares the outputs of both tiers, and the manifest with them.
func (f *fleet) wantTiers(high, medium map[string]string) {
	for base, want := range map[string]map[string]string{f.high(): high, f.medium(): medium} {
		root := filepath.Join(base, "ws")
		got := map[string]string{}
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil || strings.HasPrefix(name, "metadata/") {
				return err
			}
			data, err := os.ReadFile(path)
			got[name] = string(data)
			return err
		})
		if err != nil {
			f.errorf("%v", err)
		}
		if !maps.Equal(got, want) {
			f.errorf("%s has %v, want %v", root, got, want)
		}
	}
	f.wantManifest(high)
}

func (f *fleet) wantManifest(high map[string]string) {
	data, err := os.ReadFile(filepath.Join(f.high(), "ws", "metadata", "manifest.json"))
	if errors.Is(err, fs.ErrNotExist) && len(high) == 0 {
		return
	}
	var manifest struct {
		Outputs map[string]struct {
			Hash string `json:"content_hash"`
		} `json:"outputs"`
	}
	if err = errors.Join(err, json.Unmarshal(data, &manifest)); err != nil {
		f.errorf("manifest: %v", err)
	}
	names := slices.Sorted(maps.Keys(manifest.Outputs))
	if want := slices.Sorted(maps.Keys(high)); !slices.Equal(names, want) {
		f.errorf("the manifest has %v, want %v", names, want)
	}
}

// wantLog compares the log of an action's newest attempt, in the tier and as
// it was published: every line, each once, in order.
func (f *fleet) wantLog(id messages.RequestID, action string, want []string) {
	j := f.job(id, action)
	folder := filepath.Join(f.high(), "logs", messages.RecordMonth(j.Created), string(j.ID), fmt.Sprint(j.Attempt))
	data, err := os.ReadFile(filepath.Join(folder, "logs.txt"))
	if err != nil {
		f.errorf("log of %s: %v", action, err)
	}
	if got := printed(string(data)); len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		f.errorf("log of %s in the tier: %q, want %q", action, got, want)
	}
	var live strings.Builder
	for _, data := range f.messages(jetstream.Logs, messages.LogSubject(f.backend, j.ID, j.Attempt)) {
		var chunk messages.LogChunk
		if err := messages.Decode(data, &chunk); err != nil {
			f.errorf("log chunk: %v", err)
		}
		if chunk.Offset != int64(live.Len()) {
			f.errorf("a chunk of %s's log begins at %d, %d bytes were published before: %q", action, chunk.Offset, live.Len(), chunk.Text)
		}
		live.WriteString(chunk.Text)
	}
	if got := printed(live.String()); !slices.Equal(got, want) {
		f.errorf("log of %s as published: %q, want %q", action, got, want)
	}
}

// printed drops the time stamps of a log's lines.
func printed(log string) (list []string) {
	for line := range strings.Lines(log) {
		_, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		list = append(list, text)
	}
	return list
}

// lines are what the action long prints.
func lines(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprintf("line %d", i+1))
	}
	return list
}

// wantStarts counts the containers that were started, unless some are started
// in advance. More than wanted is the fault: the engine keeps the last 256
// events only, so that beside other tests it may know of fewer.
func (f *fleet) wantStarts(want int) {
	if f.parked > 0 {
		return
	}
	now := float64(time.Now().UnixNano()) / 1e9
	cmd := exec.Command("docker", "events", "--since", fmt.Sprint(f.began.Unix()), "--until", fmt.Sprintf("%.6f", now),
		"--filter", "event=start", "--filter", "label=sluice.backend="+f.backend, "--format", "{{.Time}}")
	out, err := cmd.Output()
	if err != nil {
		f.errorf("docker events: %v", err)
	}
	if got := strings.Count(string(out), "\n"); got > want {
		f.errorf("%d containers were started, want %d", got, want)
	}
}

// wantDead compares the number of dead letters.
func (f *fleet) wantDead(least, most uint64) {
	n, err := f.conn.Count(f.late, jetstream.Dead, "")
	if err != nil || n < least || n > most {
		f.errorf("%d dead letters (%v), want %d to %d", n, err, least, most)
	}
}

// settled waits until nothing is left on the way: no message, no container, no
// staging, no journal entry, no temporary file, no plan that is not finished.
func (f *fleet) settled() {
	f.await("nothing is left", func() error {
		return errors.Join(f.noMessages(), f.noPlans(), f.empty(f.staging()), f.empty(filepath.Join(f.high(), ".sluice", "journal")),
			f.empty(filepath.Join(f.high(), ".sluice", "tmp")), f.empty(filepath.Join(f.medium(), ".sluice", "tmp")), f.noJournals())
	})
	f.await("no container is left", f.noContainers)
}

func (f *fleet) empty(dir string) error {
	names, err := os.ReadDir(dir)
	if len(names) > 0 {
		return fmt.Errorf("%s has %v", dir, names)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (f *fleet) noJournals() error {
	var errs []error
	dirs, err := filepath.Glob(filepath.Join(f.dir, "*", "journal"))
	for _, dir := range dirs {
		pages, err := filepath.Glob(filepath.Join(dir, "*"))
		for _, page := range pages { // those that are empty are free
			if st, err := os.Stat(page); err == nil && st.Size() > 0 {
				errs = append(errs, fmt.Errorf("%s has %d bytes", page, st.Size()))
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, err)...)
}

func (f *fleet) noMessages() error {
	var errs []error
	for _, stream := range []string{jetstream.Actions, jetstream.Files, jetstream.Advisories} {
		if n, err := f.conn.Count(f.late, stream, ""); n > 0 || err != nil {
			errs = append(errs, errors.Join(fmt.Errorf("%d messages in %s", n, stream), err))
		}
	}
	for _, c := range f.consumers() {
		consumer, err := f.js.Consumer(f.late, c[0], c[1])
		if err != nil {
			return err
		}
		if info := consumer.CachedInfo(); info.NumAckPending > 0 || info.NumPending > 0 {
			errs = append(errs, fmt.Errorf("consumer %s of %s: %d to be acknowledged, %d to be delivered", c[1], c[0], info.NumAckPending, info.NumPending))
		}
	}
	return errors.Join(errs...)
}

// noContainers reports containers that are left, but for those that wait for a
// job.
func (f *fleet) noContainers() error {
	out, err := exec.Command("docker", "ps", "-a", "--filter", "label=sluice.backend="+f.backend, "--format", "{{.Names}} {{.Status}}").Output()
	if err == nil && strings.Count(string(out), "\n") > f.parked {
		err = fmt.Errorf("containers: %s", out)
	}
	return err
}

func (f *fleet) noPlans() error {
	var open []string
	err := f.conn.PlansRegister().All(f.late, "*.*.request.*", func(e messages.Entry[messages.Plan]) {
		if !e.Value.Finished {
			open = append(open, e.Key)
		}
	})
	if err == nil && len(open) > 0 {
		err = fmt.Errorf("plans that are not finished: %v", open)
	}
	return err
}
