package persister

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/messages"
)

// An account is all that is known of an attempt when it ends. Its two forms,
// the end of the log and metadata.json, are the reference's
// (agent/executors/local.py, write_log_file and get_job_metadata).
type account struct {
	job       *messages.Job
	files     *messages.Files
	matching  Matching
	outputs   []Output
	result    *messages.Result // nil if the attempt's files are not looked at
	container json.RawMessage  // the engine's record, as the worker left it; nil if there is none
	note      string           // why its files are not the job's; empty if they are
	now       time.Time
}

// Lists in a record are cut, so that 100,000 names do not bury the rest.
const maxRecorded = 10_000

// footer is what follows the log: a summary for whoever reads it. The log is
// an output checker's to read, so names are printed fit for a terminal.
func (a *account) footer() []byte {
	var b bytes.Buffer
	b.WriteString("\n=============JOB SUMMARY=============\n")
	for _, line := range [][2]string{
		{"job_definition_id", string(a.job.ID)},
		{"job_definition_rap_id", string(a.job.Request)},
		{"commit", a.job.Commit},
		{"docker_image_id", a.files.ImageDigest},
		{"exit_code", strconv.Itoa(a.files.ExitCode)},
		{"created_at", unix(a.job.Created)},
		{"completed_at", unix(a.files.Finished)},
		{"database_name", a.job.Dataset},
		{"status_message", a.statusMessage()},
		{"hint", a.hint()},
		{"note", a.note},
	} {
		if line[1] != "" {
			fmt.Fprintf(&b, "%s: %s\n", line[0], line[1])
		}
	}
	b.WriteString("\noutputs:\n")
	rows := make([][2]string, 0, len(a.outputs))
	var withheld [][2]string
	for i := range a.outputs {
		o := &a.outputs[i]
		rows = append(rows, [2]string{o.Path.String(), string(o.Tier)})
		if !o.Allowed() {
			withheld = append(withheld, [2]string{o.Path.String(), o.Reason})
		}
	}
	tabulate(&b, rows, "(no outputs)")
	if len(withheld) > 0 {
		b.WriteString("\n\nInvalid moderately_sensitive outputs:\n")
		tabulate(&b, withheld, "")
	}
	var ours [][2]string
	for _, r := range a.matching.Refused {
		ours = append(ours, [2]string{r.Path.String(), r.Reason})
	}
	if len(ours) > 0 {
		b.WriteString("\n\nRefused files:\n")
		tabulate(&b, ours, "")
	}
	if len(a.matching.Raised) > 0 {
		b.WriteString("\n\nMatched by rules of two tiers, kept in the more protected one:\n  ")
		b.WriteString(strings.Join(printable(a.matching.Raised, maxRecorded), "\n  "))
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// statusMessage says how the attempt ended, as the reference's agent does.
func (a *account) statusMessage() string {
	f := a.files
	switch {
	case f.Cancelled:
		return "Job cancelled by system"
	case a.result == nil:
		return "Job errored"
	case f.TimedOut:
		return messages.TimedOut.Message()
	case f.ExitCode != 0 && f.OOMKilled:
		if memory := a.memory(); memory > 0 {
			return fmt.Sprintf("Job ran out of memory (limit was %.2fGB)", float64(memory)/(1<<30))
		}
		return "Job ran out of memory"
	case f.ExitCode == 137:
		return "Job killed by OpenSAFELY admin or memory limits"
	case f.ExitCode != 0:
		return messages.NonzeroExit.Message()
	case len(a.matching.Unmatched) > 0:
		patterns := make([]string, 0, len(a.matching.Unmatched))
		for _, u := range a.matching.Unmatched {
			if u.Old {
				u.Pattern += " (only files that the action was given match; new or changed files are kept)"
			}
			patterns = append(patterns, u.Pattern)
		}
		return "\n  No outputs found matching patterns:\n - " + strings.Join(patterns, "\n   - ")
	}
	return messages.Success.Message()
}

// memory is what the attempt could take, in bytes; 0 if that is not known. A job
// without a limit of its own had its worker's, which the engine's record has.
func (a *account) memory() int64 {
	var inspect struct{ HostConfig struct{ Memory int64 } }
	if limit := a.job.Limits.Memory; limit > 0 || json.Unmarshal(a.container, &inspect) != nil {
		return limit
	}
	return inspect.HostConfig.Memory
}

// expectedImage is what the attempt was to run, to the digest if that was fixed
// when the job was planned.
func (a *account) expectedImage() string {
	if a.job.Digest == "" {
		return a.job.Image
	}
	return a.job.Image + "@" + a.job.Digest
}

// hint lists the files that an unmatched pattern may have meant: the nearest
// of all first, then what else was left.
func (a *account) hint() string {
	if a.result == nil || a.files.ExitCode != 0 || len(a.matching.Unmatched) == 0 || len(a.matching.Leftover) == 0 {
		return ""
	}
	var list []messages.Path
	for _, u := range a.matching.Unmatched {
		for _, p := range u.Nearest {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	near := len(list)
	for _, p := range a.matching.Leftover {
		if !slices.Contains(list[:near], p) {
			list = append(list, p)
		}
	}
	return "\n  Did you mean to match one of these files instead?\n - " + strings.Join(printable(list, maxRecorded), "\n   - ")
}

// metadata is metadata.json.
func (a *account) metadata() ([]byte, error) {
	outputs, excluded := map[string]messages.Tier{}, map[string]string{}
	for i := range a.outputs {
		o := &a.outputs[i]
		outputs[manifestKey(o.Path)] = o.Tier
		if !o.Allowed() {
			excluded[manifestKey(o.Path)] = o.Reason
		}
	}
	patterns := []string{}
	for _, u := range a.matching.Unmatched {
		patterns = append(patterns, u.Pattern)
	}
	label := a.labels()
	all := map[string]any{
		"outputs": outputs, "unmatched_patterns": patterns, "unmatched_outputs": names(a.matching.Leftover),
		"status_message": a.statusMessage(), "hint": orNull(a.hint()), "timestamp_ns": a.now.UnixNano(),
		"job_definition_id": a.job.ID, "job_definition_rap_id": a.job.Request, "task_id": fmt.Sprintf("%s-%03d", a.job.ID, a.files.Attempt),
		"created_at": a.job.Created.Unix(), "completed_at": a.files.Finished.Unix(), "user": a.job.By,
		"docker_image_id": orNull(a.files.ImageDigest), "expected_image_id": a.expectedImage(),
		"exit_code": strconv.Itoa(a.files.ExitCode), "oom_killed": a.files.OOMKilled, "timed_out": a.files.TimedOut,
		"commit": a.job.Commit, "database_name": orNull(a.job.Dataset),
		"action_version": label("org.opencontainers.image.version"), "action_revision": label("org.opencontainers.image.revision"),
		"action_created": label("org.opencontainers.image.created"), "base_revision": label("org.opensafely.base.vcs-ref"),
		"base_created":          label("org.opencontainers.base.build-date"),
		"level4_excluded_files": excluded, "cancelled": a.files.Cancelled, "error": false, "job_metrics": metrics(a.files.Metrics),
		"container_metadata": a.container,
		"attempt":            a.files.Attempt, "worker": a.files.Worker, "refused": problems(a.matching.Refused), "raised": names(a.matching.Raised), "note": orNull(a.note),
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(all); err != nil {
		return nil, fmt.Errorf("write metadata of %s: %w", a.job.ID, err)
	}
	return buf.Bytes(), nil
}

// metrics is an empty object where nothing was sampled, as the reference's is.
func metrics(m *messages.Metrics) any {
	if m == nil {
		return struct{}{}
	}
	return m
}

// labels looks a label of the image up in the engine's record.
func (a *account) labels() func(name string) string {
	var inspect struct {
		Config struct{ Labels map[string]string }
	}
	if a.container != nil && json.Unmarshal(a.container, &inspect) != nil {
		inspect.Config.Labels = nil // another engine's record: the labels are not known
	}
	return func(name string) string {
		if v := inspect.Config.Labels[name]; v != "" {
			return v
		}
		return "unknown"
	}
}

// tabulate prints two columns as the reference does (common/lib/string_utils.py).
func tabulate(b *bytes.Buffer, rows [][2]string, empty string) {
	if len(rows) == 0 {
		b.WriteString("  " + empty)
		return
	}
	var first, second int
	for _, r := range rows {
		first, second = max(first, utf8.RuneCountInString(r[0])), max(second, utf8.RuneCountInString(r[1]))
	}
	for i, r := range rows {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(b, "  %-*s  - %-*s", first, r[0], second, r[1])
	}
}

func printable(paths []messages.Path, limit int) []string {
	list := make([]string, 0, min(len(paths), limit)+1)
	for _, p := range paths[:min(len(paths), limit)] {
		list = append(list, p.String())
	}
	if len(paths) > limit {
		list = append(list, fmt.Sprintf("and %d more", len(paths)-limit))
	}
	return list
}

func names(paths []messages.Path) []string {
	list := make([]string, len(paths))
	for i, p := range paths {
		list[i] = manifestKey(p)
	}
	return list
}

func problems(list []messages.FileProblem) map[string]string {
	m := make(map[string]string, len(list))
	for _, p := range list {
		m[manifestKey(p.Path)] = p.Reason
	}
	return m
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func unix(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return strconv.FormatInt(t.Unix(), 10)
}
