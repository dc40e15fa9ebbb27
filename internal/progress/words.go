package progress

import (
	"fmt"
	"strings"
	"time"

	"sluice/messages"
)

// Clean returns text that came from elsewhere fit for a terminal: control
// characters, which could move the cursor or hide text, are escaped.
func Clean(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r == '\t' || r >= ' ' && r != 0x7f && !hides(r) {
			b.WriteRune(r)
			continue
		}
		fmt.Fprintf(&b, "\\u%04x", r)
	}
	return b.String()
}

// hides reports whether a rune re-orders or hides text: C1 controls, and the
// marks of bidirectional text.
func hides(r rune) bool {
	return r >= 0x80 && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 || r == 0xfeff
}

// Took returns a duration as people write it.
func Took(d time.Duration) string {
	switch {
	case d < 0:
		return ""
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// Bytes returns a size as people write it.
func Bytes(n int64) string {
	const k = 1024
	switch {
	case n < k:
		return fmt.Sprintf("%d B", n)
	case n < k*k:
		return fmt.Sprintf("%.1f KiB", float64(n)/k)
	case n < k*k*k:
		return fmt.Sprintf("%.1f MiB", float64(n)/k/k)
	}
	return fmt.Sprintf("%.1f GiB", float64(n)/k/k/k)
}

// files says what a job left, in a few words.
func files(j *messages.Job) string {
	r := j.Result
	if r == nil {
		return ""
	}
	s := fmt.Sprintf("%d (%s)", r.Files, Bytes(r.Bytes))
	if r.Withhelds > 0 {
		s += fmt.Sprintf(", %d withheld", r.Withhelds)
	}
	return s
}

// took returns how long a job ran, or has run.
func took(j *messages.Job, now time.Time) string {
	switch {
	case j.Started.IsZero():
		return ""
	case !j.Completed.IsZero():
		return Took(j.Completed.Sub(j.Started))
	}
	return Took(now.Sub(j.Started))
}

// Details says in lines what a reader must know of a job that ended other than
// plainly well: unmatched patterns with the likeliest files, withheld and
// refused files.
func Details(j *messages.Job) []string {
	r := j.Result
	if r == nil {
		return nil
	}
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if r.Reason != "" {
		add("stopped: %s", Clean(r.Reason))
	}
	if r.ExitCode != 0 {
		add("exit code %d", r.ExitCode)
	}
	if r.OOMKilled {
		add("a process of the action ran out of memory")
	}
	if len(r.Unmatched) > 0 {
		add("no new file matches:")
		for _, u := range r.Unmatched {
			add("  - %s", Clean(u.Pattern))
			if u.Old {
				add("      only files that the action was given match; it must write the file itself")
			}
			for _, p := range u.Nearest {
				add("      did you mean %s?", p)
			}
		}
	}
	addFiles(&lines, "files that the action wrote and no pattern matches:", r.Leftover, r.Leftovers)
	addProblems(&lines, "kept out of the moderately sensitive tier:", r.Withheld, r.Withhelds)
	addProblems(&lines, "refused, and not kept:", r.Refused, r.Refuseds)
	addFiles(&lines, "matched by patterns of two tiers, kept in the more protected one:", r.Raised, r.Raiseds)
	return lines
}

func addFiles(lines *[]string, head string, paths []messages.Path, count int) {
	if count == 0 {
		return
	}
	*lines = append(*lines, head)
	for _, p := range paths {
		*lines = append(*lines, "  - "+p.String())
	}
	addRest(lines, count-len(paths))
}

func addProblems(lines *[]string, head string, problems []messages.FileProblem, count int) {
	if count == 0 {
		return
	}
	*lines = append(*lines, head)
	for _, p := range problems {
		*lines = append(*lines, "  - "+p.Path.String()+": "+Clean(p.Reason))
	}
	addRest(lines, count-len(problems))
}

func addRest(lines *[]string, rest int) {
	if rest > 0 {
		*lines = append(*lines, fmt.Sprintf("  … and %d more", rest))
	}
}
