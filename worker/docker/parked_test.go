package docker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/client"
	"github.com/google/go-cmp/cmp"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/docker"
	"sluice/worker/runtimetest"
)

// A yard is a worker of its own that starts containers in advance.
type yard struct {
	*docker.Runtime
	cli *client.Client
	dir string
}

func openYard(t *testing.T) yard {
	t.Helper()
	cli, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cli.Close() })
	y := yard{cli: cli, dir: t.TempDir()}
	y.Runtime = y.open(t)
	return y
}

func (y yard) open(t *testing.T) *docker.Runtime {
	return open(t, func(c *docker.Config) { c.Parked, c.Dir = 1, y.dir })
}

// spec is a shell script's, with a workspace of its own.
func (y yard) spec(t *testing.T, name string, args ...string) worker.Spec {
	t.Helper()
	digest, err := y.Image(t.Context(), "sh:v1")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 10000, 10000); err != nil {
		t.Fatal(err)
	}
	return worker.Spec{
		Attempt: worker.Attempt{Job: messages.NewJobID("parked", t.Name()+name+prefix), Number: 1, Backend: "test"}, Workspace: "ws", Action: "act",
		Image: "sh:v1", Digest: digest, Args: args, Dir: dir, UID: 10000, GID: 10000,
		Limits: messages.Limits{CPUs: 1, Memory: 64 << 20, Processes: 64, Disk: 64 << 20, Time: time.Minute},
	}
}

// run starts an attempt by one way or the other and returns its log.
func (y yard) run(t *testing.T, start func(context.Context, worker.Spec) (worker.Container, error), spec worker.Spec) (worker.Exit, string, worker.Container) {
	t.Helper()
	box, err := start(t.Context(), spec)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	t.Cleanup(func() {
		if err := box.Remove(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	exit, err := box.Wait(t.Context())
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	var log bytes.Buffer
	if err := box.Logs(t.Context(), &log); err != nil {
		t.Fatalf("Logs: %v", err)
	}
	return exit, runtimetest.Unstamp(log.String()), box
}

// left lists what the engine has of this worker's folder.
func (y yard) left(t *testing.T) (ids []string) {
	t.Helper()
	list, err := y.cli.ContainerList(t.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", "sluice.instance="+y.instance(t)))})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range list {
		ids = append(ids, c.ID)
	}
	return ids
}

// look prints what a program can find out about where it runs.
const look = `
id; pwd; umask; ulimit -a; env | sort
grep -v -E '^(Pid|Ngid|PPid|NSpid|NStgid|NSpgid|NSsid|Tgid|Vm|Rss|.*ctxt_switches|Mems_allowed|Cpus_allowed|SigQ|THP|x86)' /proc/self/status
ls -l /proc/self/fd /proc/1/fd 2>/dev/null | sed 's/.* \([0-9]* -> \)/\1/'
tr '\0' '\n' </proc/1/environ | sort
ls -la / /workspace /tmp /dev | grep -v proc | sed 's/ [A-Z][a-z][a-z] .*[0-9] / /'
sed 's/^[0-9]* [0-9]* //' /proc/self/mountinfo | grep -v overlay
tail -n +3 /proc/net/dev; ls /sys/class/net
find / -xdev \( -name program -o -name fifo \) 2>/dev/null
`

// volatile is what differs from one container to the next.
var volatile = regexp.MustCompile(`[0-9a-f]{64}|[0-9a-f]{12}|pipe:\[\d+\]|\b\d+:\d+\b|sluice-[a-z0-9-]+|/[^ ]*TestParkedIsLikeFresh[^ ]*|minor:\d+|master:\d+|total \d+`)

// TestParkedIsLikeFresh: a program cannot tell the two kinds of container apart,
// but by the mount that its workspace came by; above all it does not see the
// program that waited, nor what that was handed.
func TestParkedIsLikeFresh(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	env := []messages.EnvVar{{Name: "HOME", Value: "/tmp"}, {Name: "DATABASE_URL", Value: "hunter2"}, {Name: "PATH", Value: "/nowhere:/bin"}}
	var logs [2]string
	for i, start := range []func(context.Context, worker.Spec) (worker.Container, error){y.Start, y.StartParked} {
		spec := y.spec(t, string(rune('a'+i)), "sh", "-c", look, "an argument")
		spec.Env = env
		exit, log, box := y.run(t, start, spec)
		if exit.Code != 0 || docker.Parked(box) != (i == 1) {
			t.Fatalf("exit %+v, in advance: %t; log:\n%s", exit, docker.Parked(box), log)
		}
		logs[i] = volatile.ReplaceAllString(log, "X")
	}
	fresh, parked := strings.Split(logs[0], "\n"), strings.Split(logs[1], "\n")
	// The engine gives a fresh container's secrets to its first process too.
	isSecret := func(line string) bool {
		return strings.Contains(line, "hunter2") || strings.HasPrefix(line, "HOME=") || strings.HasPrefix(line, "PATH=")
	}
	isMount := func(line string) bool { return strings.Contains(line, " /workspace ") }
	count := func(lines []string, is func(string) bool) (n int) {
		for _, l := range lines {
			if is(l) {
				n++
			}
		}
		return n
	}
	if n := count(parked, func(l string) bool { return strings.Contains(l, "hunter2") }); n != 1 {
		t.Errorf("the secret is seen in %d places, want the program's own environment alone", n)
	}
	if f, p := count(fresh, isMount), count(parked, isMount); f != 1 || p != 2 {
		t.Errorf("/workspace is mounted %d and %d times, want once, and once over where the program waited", f, p)
	}
	drop := func(l string) bool { return isSecret(l) || isMount(l) }
	if diff := cmp.Diff(slices.DeleteFunc(fresh, drop), slices.DeleteFunc(parked, drop)); diff != "" {
		t.Errorf("what is seen in a fresh container (-) and in one that waited (+) differs:\n%s", diff)
	}
	for _, word := range []string{"/program", "fifo"} {
		if i := slices.IndexFunc(parked, func(l string) bool { return strings.Contains(l, word) }); i >= 0 {
			t.Errorf("the container shows %q: %s", word, parked[i])
		}
	}
}

// TestParkedRecord: neither the engine nor the record that is kept knows a
// secret; the record says what ran.
func TestParkedRecord(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	spec := y.spec(t, "", "sh", "-c", "exit 3")
	spec.Env = []messages.EnvVar{{Name: "DATABASE_URL", Value: "hunter2"}, {Name: "OPENSAFELY_BACKEND", Value: "tpp"}}
	if err := y.Park(spec); err != nil {
		t.Fatal(err)
	}
	exit, _, box := y.run(t, y.Start, spec)
	record, err := box.Inspect(t.Context())
	if err != nil || !docker.Parked(box) {
		t.Fatalf("Inspect: %v, in advance: %t", err, docker.Parked(box))
	}
	var got container.InspectResponse
	if err := json.Unmarshal(record, &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "/sluice-"+string(spec.Attempt.Job)+"-1-"+got.Config.Labels["sluice.instance"] || got.State.Running || got.State.ExitCode != 3 || got.State.StartedAt != exit.Started.Format(time.RFC3339Nano) || got.HostConfig.Memory != spec.Limits.Memory ||
		got.Config.Labels["sluice.job"] != string(spec.Attempt.Job) || !slices.Equal(got.Config.Cmd, spec.Args) || !slices.Contains(got.Config.Env, "DATABASE_URL=xxxx-REDACTED-xxxx") {
		t.Errorf("record = %s, %+v", record, exit)
	}
	_, engine, err := y.cli.ContainerInspectWithRaw(t.Context(), got.ID, false)
	if err != nil || bytes.Contains(engine, []byte("hunter2")) || bytes.Contains(record, []byte("hunter2")) {
		t.Errorf("the engine's record: %v, %s", err, engine)
	}
	for _, name := range []string{"taken.json", "exit.json"} {
		found, err := filepath.Glob(filepath.Join(y.dir, "parked", "*", "*", name))
		if err != nil || len(found) != 1 {
			t.Fatalf("%s: %v, %v", name, found, err)
		}
		if data, err := os.ReadFile(found[0]); err != nil || bytes.Contains(data, []byte("hunter2")) {
			t.Errorf("%s: %v, %s", name, err, data)
		}
	}
}

// TestParkedIsTheJobs: only a container with just the job's limits, user and
// image is used; what is not alike gets one of its own.
func TestParkedIsTheJobs(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	like := y.spec(t, "", "true")
	for name, change := range map[string]func(*worker.Spec){
		"memory":    func(s *worker.Spec) { s.Limits.Memory *= 2 },
		"processes": func(s *worker.Spec) { s.Limits.Processes++ },
		"disk":      func(s *worker.Spec) { s.Limits.Disk++ },
		"user":      func(s *worker.Spec) { s.UID++ },
		"image":     func(s *worker.Spec) { s.Digest = "sha256:" + strings.Repeat("0", 64) },
	} {
		if err := y.Park(like); err != nil {
			t.Fatal(err)
		}
		spec := y.spec(t, name, "true")
		change(&spec)
		if _, _, box := y.run(t, y.Start, spec); docker.Parked(box) {
			t.Errorf("a container of another %s was used", name)
		}
	}
	networked := y.spec(t, "network", "true")
	networked.Network.Name = "bridge"
	if err := y.Park(networked); err == nil {
		t.Error("a container with a network was started in advance")
	}
	like.Limits.Time = 5 * time.Minute // the worker's own affair
	if _, _, box := y.run(t, y.Start, like); !docker.Parked(box) {
		t.Error("the container that waited was not used for what is like it")
	}
}

// TestParkedRefill: what is used is made up for, and all goes at the end.
func TestParkedRefill(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	first, err := y.Start(t.Context(), y.spec(t, "first", "true"))
	if err != nil || docker.Parked(first) {
		t.Fatalf("Start = %v, in advance: %t", err, docker.Parked(first))
	}
	y.Refill(y.spec(t, "", "true"))
	y.Settle()
	if y.Idle() != 1 {
		t.Fatalf("%d containers wait, want 1", y.Idle())
	}
	second, err := y.Start(t.Context(), y.spec(t, "second", "true"))
	if err != nil || !docker.Parked(second) {
		t.Fatalf("Start = %v, in advance: %t", err, docker.Parked(second))
	}
	for _, box := range []worker.Container{first, second} {
		if err := box.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	y.Settle()
	if y.Idle() != 1 {
		t.Errorf("%d containers wait after the removal of one that did, want 1", y.Idle())
	}
	y.Drain()
	if left := y.left(t); y.Idle() != 0 || len(left) != 0 {
		t.Errorf("after the drain there are %d, %v", y.Idle(), left)
	}
	if _, _, box := y.run(t, y.Start, y.spec(t, "third", "true")); docker.Parked(box) {
		t.Error("a container was started in advance after the drain")
	}
}

// TestParkedDies: containers that waited for a worker that was killed end by
// themselves, are not taken for an attempt's, and are swept, while a living
// worker's are left alone.
func TestParkedDies(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	spec, runs := y.spec(t, "spec", "true"), y.spec(t, "runs", "sh", "-c", "while ! [ -e go ]; do sleep 0.1; done; echo went on; exit 4")
	box, err := y.StartParked(t.Context(), runs)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := y.Park(spec); err != nil {
			t.Fatal(err)
		}
	}
	next := y.open(t)
	if found, err := next.Find(t.Context()); err != nil || len(found) != 1 || len(y.left(t)) != 3 {
		t.Errorf("Find beside a living process = %v, %v, %v, want what runs, and nothing removed", found, err, y.left(t))
	}
	if err := y.Die(&spec); err != nil {
		t.Fatal(err)
	}
	for _, id := range y.left(t) {
		if id == docker.ID(box) {
			continue
		}
		over, failed := y.cli.ContainerWait(t.Context(), id, container.WaitConditionNotRunning)
		select {
		case <-over:
		case err := <-failed:
			t.Fatal(err)
		case <-time.After(3 * time.Minute):
			t.Fatalf("container %s did not end with its worker", id)
		}
	}
	found, err := next.Find(t.Context())
	if err != nil || len(found) != 1 || found[0].Attempt() != runs.Attempt || len(y.left(t)) != 1 {
		t.Fatalf("Find = %v, %v, left %v, want the one that runs", found, err, y.left(t))
	}
	if err := os.WriteFile(filepath.Join(runs.Dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	exit, err := found[0].Wait(t.Context())
	var log bytes.Buffer
	if logErr := found[0].Logs(t.Context(), &log); err != nil || logErr != nil || exit.Code != 4 || runtimetest.Unstamp(log.String()) != "went on\n" {
		t.Errorf("Wait = %+v, %v, log %q, %v", exit, err, log.String(), logErr)
	}
	if own, err := box.Wait(t.Context()); err != nil || own.Code != 4 {
		t.Errorf("Wait of a process that lost its hold = %+v, %v", own, err)
	}
	if err := found[0].Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if found, err := next.Find(t.Context()); err != nil || len(found)+len(y.left(t)) != 0 {
		t.Errorf("Find at the end = %v, %v, %v", found, err, y.left(t))
	}
	if folders, err := os.ReadDir(filepath.Join(y.dir, "parked")); err != nil || len(folders) != 1 {
		t.Errorf("folders = %v, %v, want that of the living process", folders, err)
	}
}

// TestParkedFails: what goes wrong with a container that waited costs nothing
// but time.
func TestParkedFails(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	spec := y.spec(t, "", "true")
	if err := y.Park(spec); err != nil {
		t.Fatal(err)
	}
	for _, id := range y.left(t) {
		if err := y.cli.ContainerKill(t.Context(), id, "KILL"); err != nil {
			t.Fatal(err)
		}
	}
	if exit, _, box := y.run(t, y.Start, spec); docker.Parked(box) || exit.Code != 0 {
		t.Errorf("exit %+v, in advance: %t, want a fresh container", exit, docker.Parked(box))
	}
	nowhere := y.spec(t, "nowhere", "true")
	nowhere.Dir += "/no/such"
	if err := y.Park(nowhere); err != nil {
		t.Fatal(err)
	}
	if _, err := y.Start(t.Context(), nowhere); err == nil {
		t.Error("Start without a workspace succeeded")
	}
	y.Drain()
	if left := y.left(t); len(left) != 1 {
		t.Errorf("left = %v, want the first attempt's alone", left)
	}
}

// TestParkedLost: a container that the engine made although it did not say so is
// taken away, beside those that wait.
func TestParkedLost(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	spec := y.spec(t, "", "true")
	for range 2 {
		if err := y.Park(spec); err != nil {
			t.Fatal(err)
		}
	}
	if err := y.Lose(); err != nil {
		t.Fatal(err)
	}
	if found, err := y.Find(t.Context()); err != nil || len(found) != 0 || y.Idle() != 1 || len(y.left(t)) != 1 {
		t.Errorf("Find = %v, %v, %d wait, containers %v, want the one that waits", found, err, y.Idle(), y.left(t))
	}
	y.Drain()
}
