package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sluice/messages"
)

// What may differ between two runs of the same studies, and why:
//
//   - times: of a job's creation, start and end, of a file, of a log's line;
//   - the number of the attempt whose files are the job's: others may have been
//     lost, and their records and logs stay beside it;
//   - digests of what has one of these in it: a job's manifest, a log;
//   - the worker that ran it, and the engine's record of its container, which is full
//     of times and ids;
//   - what a container used, of which there are samples only if it ran for ten
//     seconds: on a machine that is busy, any may;
//   - everything of the racy workspace, where either end is right. What must
//     hold there is that a job has all of its files or none.
//
// Everything else is compared byte for byte, with modes.

// dropped are the fields of JSON documents that have one of these in them.
var dropped = map[string]bool{
	"timestamp": true, "timestamp_ns": true, "created_at": true, "completed_at": true, "at": true, "attempt": true, "task_id": true, "worker": true, "container_metadata": true, "job_metrics": true,
}

var (
	stamp   = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?`)
	seconds = regexp.MustCompile(`(?m)^(created_at|completed_at): .*$`)
	month   = regexp.MustCompile(`^high/logs/\d{4}-\d\d/([a-z2-7]{16})/(?:(\d+)/)?`)
)

// read reads the tiers of a run, made comparable.
func (f *fleet) read(ctx context.Context, d *desk, studies []*study) (*ending, error) {
	racy, commits := map[string]bool{}, map[messages.JobID]int{}
	var errs []error
	for _, s := range studies {
		for _, wave := range s.waves {
			for _, q := range wave {
				for _, a := range q.actions {
					id := messages.NewJobID(q.id, a.name)
					e, err := f.conn.CommitsRegister().Get(ctx, messages.CommitKey(backend, id))
					if err != nil && !errors.Is(err, messages.ErrNotFound) {
						errs = append(errs, err)
					}
					if e.Value != nil {
						commits[id] = e.Value.Attempt
					}
					if s.racy {
						racy[string(id)] = true
					}
				}
			}
		}
		if s.racy {
			racy[s.workspace] = true
		}
	}
	all := map[string]string{}
	for _, tier := range []string{"high", "medium"} {
		err := filepath.WalkDir(f.path(tier), func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			name, err := filepath.Rel(f.dir, path)
			if err != nil || entry.IsDir() && entry.Name() != ".sluice" {
				return err
			}
			if entry.IsDir() {
				return filepath.SkipDir
			}
			all[name], err = content(path, entry)
			return err
		})
		errs = append(errs, err)
	}
	for _, s := range studies {
		errs = append(errs, d.whole(s, all))
	}
	files := map[string]string{}
	for name, text := range all {
		if m := month.FindStringSubmatch(name); m != nil {
			if racy[m[1]] || m[2] != "" && m[2] != strconv.Itoa(commits[messages.JobID(m[1])]) {
				continue
			}
			name = "high/logs/" + m[1] + "/" + strings.TrimPrefix(name, m[0])
		}
		if racy[strings.Split(name, "/")[1]] {
			continue
		}
		files[name] = text
	}
	return &ending{files}, errors.Join(errs...)
}

// content is what is compared of a file.
func content(path string, entry fs.DirEntry) (string, error) {
	info, err := entry.Info()
	if err != nil {
		return "", err
	}
	mode := info.Mode().String() + "\n"
	if !info.Mode().IsRegular() {
		return mode, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	switch name := filepath.Base(path); {
	case name == "container.json":
		return mode, nil
	case name == "manifest.json" || name == "metadata.json":
		var doc any
		if err := json.Unmarshal(data, &doc); err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		data, err = json.MarshalIndent(without(doc), "", " ")
		if err != nil {
			return "", err
		}
	case strings.HasSuffix(name, ".log") || name == "logs.txt":
		data = seconds.ReplaceAll(stamp.ReplaceAll(data, []byte("TIME")), []byte("$1: TIME"))
	case len(data) > 1<<10:
		return fmt.Sprintf("%s%d bytes, sha256 %x\n", mode, len(data), sha256.Sum256(data)), nil
	}
	return mode + string(data), nil
}

// without takes the dropped fields out of a document.
func without(doc any) any {
	switch v := doc.(type) {
	case map[string]any:
		for name, value := range v {
			if dropped[name] {
				v[name] = "…"
			} else {
				v[name] = without(value)
			}
		}
	case []any:
		for i := range v {
			v[i] = without(v[i])
		}
	}
	return doc
}

// compare reports each file that differs, with its first different lines.
func compare(calm, storm *ending) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(calm.files)) {
		have, there := storm.files[name]
		switch {
		case !there:
			errs = append(errs, fmt.Errorf("-%s: it is missing", name))
		case have != calm.files[name]:
			errs = append(errs, fmt.Errorf("%s:\n%s", name, difference(calm.files[name], have)))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(storm.files)) {
		if _, there := calm.files[name]; !there {
			errs = append(errs, fmt.Errorf("+%s: it should not be there", name))
		}
	}
	if more := len(errs) - 30; more > 0 {
		errs = append(errs[:30], fmt.Errorf("and %d more files", more))
	}
	return errors.Join(errs...)
}

// difference shows where two texts part.
func difference(a, b string) string {
	before, after := strings.Split(a, "\n"), strings.Split(b, "\n")
	i := 0
	for i < len(before) && i < len(after) && before[i] == after[i] {
		i++
	}
	show := func(lines []string, sign string) string {
		var out strings.Builder
		for _, line := range lines[min(i, len(lines)):min(i+5, len(lines))] {
			fmt.Fprintf(&out, "  %s%s\n", sign, line)
		}
		return out.String()
	}
	return fmt.Sprintf("  line %d of %d, and of %d:\n%s%s", i+1, len(before), len(after), show(before, "-"), show(after, "+"))
}
