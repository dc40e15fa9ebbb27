package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// A study is a repository with the actions that workloads ask for.
type study struct{ messages.Source }

// Sizes of studies: reading a project file takes time in proportion.
const (
	few  = 10   // no-op actions where one job at a time is measured
	most = 1000 // where throughput is
)

// chain is how many actions w4 runs one after another.
const chain = 10

// manyFiles writes 1,000 files of 4 KiB in ten folders, half of them for both
// tiers, and one of 256 MiB, which is more than the moderately sensitive tier
// takes.
const manyFiles = `mkdir -p high both && cd high && mkdir 0 1 2 3 4 && cd ../both && mkdir 0 1 2 3 4 && cd .. &&
awk 'BEGIN { while (length(s) < 4080) s = s "0123456789abcdef"
  for (d = 0; d < 10; d++) for (i = 0; i < 100; i++) { f = (d < 5 ? "high/" : "both/") d % 5 "/" i ".txt"; printf "%s%07d%07d\n", s, d, i > f; close(f) } }' &&
dd if=/dev/urandom of=big.bin bs=1048576 count=256 2>/dev/null
`

// repository makes the study with so many no-op actions, once.
func (b *Bench) repository(ctx context.Context, actions int) (study, error) {
	if s, made := b.studies[actions]; made {
		return s, nil
	}
	s, err := makeStudy(ctx, filepath.Join(b.scratch, fmt.Sprintf("study-%d", actions)), actions)
	if err != nil {
		return study{}, err
	}
	if b.studies == nil {
		b.studies = map[int]study{}
	}
	b.studies[actions] = s
	return s, nil
}

func makeStudy(ctx context.Context, dir string, actions int) (study, error) {
	var text strings.Builder
	text.WriteString("version: 5\nactions:\n")
	action := func(name, needs, script string) {
		fmt.Fprintf(&text, "  %s:\n    run: %s /bin/sh -c \"%s\"\n%s    outputs:\n      highly_sensitive:\n        x: %s.txt\n", name, toolImage, script, needs, name)
	}
	for i := range actions {
		name := fmt.Sprintf("noop%d", i)
		action(name, "", "echo 1 > "+name+".txt")
	}
	for i := range chain {
		name, needs := fmt.Sprintf("chain%d", i), ""
		if i > 0 {
			needs = fmt.Sprintf("    needs: [chain%d]\n", i-1)
		}
		action(name, needs, "echo 1 > "+name+".txt")
	}
	fmt.Fprintf(&text, "  files:\n    run: %s /bin/sh files.sh\n    outputs:\n      highly_sensitive:\n        small: high/*/*.txt\n        big: big.bin\n      moderately_sensitive:\n        small: both/*/*.txt\n", toolImage)
	for name, content := range map[string]string{"project.yaml": text.String(), "files.sh": manyFiles} {
		if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // nothing in it is secret
			return study{}, err
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil { //nolint:gosec // likewise
			return study{}, err
		}
	}
	commit := ""
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "."}, {"commit", "-q", "-m", "bench"}, {"rev-parse", "HEAD"}} {
		cmd := exec.CommandContext(ctx, "git", append([]string{"-C", dir, "-c", "user.name=bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false"}, args...)...) //nolint:gosec // fixed words
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return study{}, fmt.Errorf("make the study: git %s: %w: %s", args[0], err, out)
		}
		commit = strings.TrimSpace(string(out))
	}
	return study{messages.Source{Repo: dir, Branch: "main", Commit: commit}}, nil
}

// removeTree removes a folder and lets go of what is still mounted in it.
func removeTree(dir string) error {
	if mounts, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		for line := range strings.Lines(string(mounts)) {
			if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
				_ = unix.Unmount(fields[4], unix.MNT_DETACH) // what stays makes the removal fail
			}
		}
	}
	return os.RemoveAll(dir)
}
