// Package reliability breaks fleets of real processes: at every fault point,
// in their workers' sleep, in their engine, in their clock. What each test
// expects stands in docs/reliability.md.
package reliability

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// withoutProtection has TestFaultPoints run each of its scenes with a build in
// which the protection of its fault point is taken out: `make unprotected`.
var withoutProtection = flag.Bool("without-protection", false, "take each fault point's protection out, and expect its scene to fail")

// longest is how long the action of TestLongJob runs at least: the blows are
// spread over it. Without it, it runs until the blows are over.
var longest = flag.Duration("long", 0, "how long the action of TestLongJob runs at least")

// images is the prefix of these tests' images: another run on the same engine
// removes its own.
var images = fmt.Sprintf("sluice-reliability-%d/", os.Getpid())

// Built once for all tests.
var (
	binary   string // sluice with fault points
	study    string // a repository
	first    string // its first commit
	second   string // its second, which puts an output into another tier
	vanished string // its third, with an action whose image goes away
)

func TestMain(m *testing.M) {
	if at := os.Getenv(storeVariable); at != "" {
		serveAlone(at)
	}
	flag.Parse()
	_ = flag.Set("test.parallel", "5") // they wait for most of their time
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "reliability:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "sluice-reliability")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "sluice")
	if err := build(binary, ""); err != nil {
		return 1, err
	}
	provide := exec.Command("../../examples/images.sh")
	provide.Env = append(os.Environ(), "SLUICE_IMAGE_PREFIX="+images)
	if out, err := provide.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("these tests need a Docker Engine: %w\n%s", err, out)
	}
	defer func() {
		for _, name := range []string{"awk:v1", "sh:v1"} {
			_ = exec.Command("docker", "image", "rm", "-f", images+name).Run()
		}
	}()
	study = filepath.Join(dir, "study")
	if err := makeStudy(); err != nil {
		return 1, err
	}
	return m.Run(), nil
}

// build builds sluice with fault points, with files replaced as an overlay
// says.
func build(path, overlay string) error {
	args := []string{"build", "-tags=faults", "-o", path}
	if overlay != "" {
		args = append(args, "-overlay="+overlay)
	}
	out, err := exec.Command("go", append(args, "../..")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build sluice with fault points: %w\n%s", err, out)
	}
	return nil
}

// project is that of the study: what both tiers get, a long action, one that
// goes on until it is let through, one that does not stop when asked.
const project = `
version: 5
actions:
  make:
    run: sh:v1 scripts/make.sh
    outputs:
      highly_sensitive: {rows: output/rows*.csv}
      moderately_sensitive: {tables: output/table*.csv}
  use:
    run: sh:v1 -c "cat output/rows*.csv > output/sums.csv; echo used"
    needs: [make]
    outputs:
      highly_sensitive: {sums: output/sums.csv}
  long:
    run: sh:v1 scripts/long.sh 40
    outputs:
      highly_sensitive: {long: output/long.csv}
  gated:
    run: sh:v1 scripts/gated.sh
    outputs:
      highly_sensitive: {gated: output/gated.csv}
  stubborn:
    run: sh:v1 scripts/stubborn.sh
    outputs:
      highly_sensitive: {stubborn: output/stubborn.csv}
`

const makeScript = `
mkdir -p output/deep
for i in 1 2 3; do echo $i > output/rows$i.csv; done
for i in 1 2; do echo a,$i > output/table$i.csv; done
echo made
`

const longScript = `
mkdir -p output
i=0
while [ $i -lt $1 ]; do i=$((i+1)); echo line $i; sleep 0.1; done
echo $i > output/long.csv
`

const gatedScript = `
mkdir -p output
i=0
until [ -e gate ]; do i=$((i+1)); echo line $i; sleep 0.1; done
echo $i > output/gated.csv
`

const stubbornScript = `
trap '' TERM
echo I will not stop
while true; do sleep 0.1; done
`

func makeStudy() error {
	files := map[string]string{
		"project.yaml": project, "scripts/make.sh": makeScript, "scripts/long.sh": longScript, "scripts/gated.sh": gatedScript,
		"scripts/stubborn.sh": stubbornScript,
	}
	for name, text := range files {
		path := filepath.Join(study, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	var err error
	if first, err = commit(); err != nil {
		return err
	}
	demoted := strings.Replace(project, "rows: output/rows*.csv", "rows: output/rows*.csv, table: output/table2.csv", 1)
	if err := os.WriteFile(filepath.Join(study, "project.yaml"), []byte(demoted), 0o644); err != nil {
		return err
	}
	if second, err = commit(); err != nil {
		return err
	}
	vanishing := project + "  vanish:\n    run: vanishing:v1 true\n    outputs:\n      highly_sensitive: {none: output/none.csv}\n"
	if err := os.WriteFile(filepath.Join(study, "project.yaml"), []byte(vanishing), 0o644); err != nil {
		return err
	}
	vanished, err = commit()
	return err
}

// commit makes a commit of the study as it is.
func commit() (string, error) {
	var out []byte
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"add", "-A"}, {"commit", "-q", "-m", "study"}, {"rev-parse", "HEAD"}} {
		cmd := exec.Command("git", append([]string{"-C", study, "-c", "user.name=e2e", "-c", "user.email=e2e@example.org", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		var err error
		if out, err = cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("git %v: %w\n%s", args, err, out)
		}
	}
	return strings.TrimSpace(string(out)), nil
}
