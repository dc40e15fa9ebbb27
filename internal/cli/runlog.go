package cli

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/messages"
)

// logPath is where the log of a job lies, if it is there.
func (s *study) logPath(j *messages.Job) string {
	path := filepath.Join(s.folder, "metadata", j.Action+".log")
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// tailLines is how much of a failed action's log is shown (as upstream's
// command line does).
const tailLines = 32

// tail returns the last lines that an action wrote, without time stamps and
// without the summary below them.
func (s *study) tail(j *messages.Job) []string {
	f, err := os.Open(filepath.Join(s.folder, "metadata", j.Action+".log"))
	if err != nil {
		return nil
	}
	defer f.Close()
	var lines []string
	scan := bufio.NewScanner(f)
	scan.Buffer(make([]byte, 64<<10), 1<<20)
	for scan.Scan() {
		line := scan.Text()
		if strings.Contains(line, "=====JOB SUMMARY=====") {
			break
		}
		if lines = append(lines, withoutTime(line)); len(lines) > tailLines {
			lines = lines[1:]
		}
	}
	for len(lines) > 0 && strings.TrimSpace(lines[len(lines)-1]) == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// withoutTime cuts the engine's time stamp off a log line.
func withoutTime(line string) string {
	stamp, rest, ok := strings.Cut(line, " ")
	if !ok {
		stamp, rest = line, ""
	}
	if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
		return line
	}
	return rest
}
