package reliability

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// A fleet is a server of the test's own, and real processes around it. Times
// are short, but a machine that stands still for some seconds must not cost an
// attempt: a lease lives for three seconds and is given up after twenty more.
// What is not acknowledged comes again after one.
type fleet struct {
	t       *testing.T // for what ends with the test
	ctx     context.Context
	dir     string
	binary  string
	backend string // of this fleet alone: its containers are known by it
	commit  string // of the study
	server  *jetstream.Server
	conn    *jetstream.Conn
	js      njs.JetStream
	late    context.Context // of what is looked at when the play's time is over
	env     []string
	began   time.Time
	ttl     time.Duration
	grace   time.Duration
	most    int // attempts of a job
	parked  int // containers that wait on each worker

	mu        sync.Mutex
	processes map[string]*process
	failures  []string
}

// inFleet runs a play in a fleet of its own, and returns what went wrong.
func inFleet(t *testing.T, name, binary string, limit time.Duration, play func(*fleet)) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	late, done := context.WithTimeout(t.Context(), limit+time.Minute)
	defer done()
	f := &fleet{
		t: t, ctx: ctx, late: late, dir: t.TempDir(), binary: binary, backend: fmt.Sprintf("r%d-", os.Getpid()) + strings.ToLower(strings.NewReplacer(".", "-", "_", "-").Replace(name)),
		commit: first, processes: map[string]*process{}, began: time.Now(), ttl: 3 * time.Second, grace: 20 * time.Second, most: 3,
	}
	f.serve(t)
	played := make(chan struct{})
	go func() { // fatalf ends this goroutine
		defer close(played)
		play(f)
	}()
	<-played
	f.clear()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.failures) > 0 || os.Getenv("SHOW") != "" {
		f.describe(t)
	}
	return f.failures
}

// serve starts the server and connects to it.
func (f *fleet) serve(t *testing.T) {
	f.server = jetstreamtest.ServerAt(t, filepath.Join(f.dir, "nats"), "127.0.0.1:0")
	f.env = []string{
		"SLUICE_NATS_URL=" + f.server.URL(), "BACKENDS=" + f.backend, "BACKEND=" + f.backend, "ALLOW_LOCAL_GIT_REPOS=true",
		"SLUICE_IMAGE_PREFIX=" + images, "SLUICE_NO_PULL=true", "SLUICE_MIN_FREE=1M", "SLUICE_LEASE_TTL=" + f.ttl.String(),
		"HIGH_PRIVACY_STORAGE_BASE=" + f.high(), "MEDIUM_PRIVACY_STORAGE_BASE=" + f.medium(), "SLUICE_STAGING=" + f.staging(), "SLUICE_LOG_LEVEL=debug",
	}
	if out, err := f.command("topology", "--apply", "--store", "512M").CombinedOutput(); err != nil {
		t.Fatalf("provision: %v\n%s", err, out)
	}
	f.conn = jetstreamtest.Connect(t, f.server)
	f.hurry(t)
}

// hurry has unacknowledged messages come again soon.
func (f *fleet) hurry(t *testing.T) {
	nc, err := nats.Connect(f.server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	if f.js, err = njs.New(nc); err != nil {
		t.Fatal(err)
	}
	if err := f.ackWait(time.Second); err != nil {
		t.Fatal(err)
	}
}

// ackWait sets after how long an unacknowledged message comes again.
func (f *fleet) ackWait(d time.Duration) error {
	for _, c := range f.consumers() {
		have, err := f.js.Consumer(f.ctx, c[0], c[1])
		if err != nil {
			return err
		}
		config := have.CachedInfo().Config
		config.AckWait = d
		if _, err := f.js.UpdateConsumer(f.ctx, c[0], config); err != nil {
			return err
		}
	}
	return nil
}

// consumers are the stream and the name of each that services share.
func (f *fleet) consumers() [][2]string {
	return [][2]string{
		{jetstream.Requests, jetstream.PlannerConsumer},
		{jetstream.Events, jetstream.PlannerConsumer},
		{jetstream.Files, jetstream.PersisterConsumer(f.backend)},
		{jetstream.Actions, jetstream.WorkerConsumer(f.backend, "default")},
	}
}

func (f *fleet) high() string    { return filepath.Join(f.dir, "high") }
func (f *fleet) medium() string  { return filepath.Join(f.dir, "medium") }
func (f *fleet) staging() string { return filepath.Join(f.dir, "staging") }

// hits is where a process notes the fault points that it reached.
func (f *fleet) hits(name string) string {
	dir := filepath.Join(f.dir, "hits", name)
	_ = os.MkdirAll(dir, 0o755)
	return dir
}

// command is one that a person could type.
func (f *fleet) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(f.ctx, f.binary, args...)
	cmd.Env = append(os.Environ(), f.env...)
	return cmd
}

// planner, worker and persister make a service; faults are those of its lives.
func (f *fleet) planner(name string, faults ...string) *process {
	return f.add(name, faults, "planner", "--name", name, "--mirrors", filepath.Join(f.dir, "mirrors-"+name),
		"--lease-grace", f.grace.String(), "--max-attempts", fmt.Sprint(f.most))
}

func (f *fleet) worker(name string, faults ...string) *process {
	return f.add(name, faults, "worker", "--name", name, "--state", filepath.Join(f.dir, name), "--slots", "2", "--stop-grace", "1s")
}

func (f *fleet) persister(name string, faults ...string) *process {
	return f.add(name, faults, "persister")
}

func (f *fleet) add(name string, faults []string, args ...string) *process {
	p := &process{f: f, name: name, path: f.binary, args: args, faults: faults, env: []string{fmt.Sprintf("SLUICE_PARKED=%d", f.parked)}}
	f.mu.Lock()
	f.processes[name] = p
	f.mu.Unlock()
	return p
}

// start begins services, in this order.
func (f *fleet) start(services ...*process) {
	for _, p := range services {
		p.start()
	}
}

// whole starts a planner, a worker and a persister, of which one has faults.
func (f *fleet) whole(of string, faults ...string) *process {
	services := map[string]*process{}
	for _, service := range []struct {
		name string
		make func(string, ...string) *process
	}{{"planner", f.planner}, {"worker", f.worker}, {"persister", f.persister}} {
		var own []string
		if service.name == of {
			own = faults
		}
		services[service.name] = service.make(service.name, own...)
		services[service.name].start()
	}
	return services[of]
}

// seen waits until the job server was told of a job's code.
func (f *fleet) seen(id messages.RequestID, action string, code messages.Code) {
	f.await(fmt.Sprintf("%s is %s", action, code), func() error {
		line := fmt.Sprintf("job %s %s", action, code)
		if told := f.outcomes(id); !slices.Contains(told, line) {
			return fmt.Errorf("told: %v", told)
		}
		return nil
	})
}

// request asks for actions.
func (f *fleet) request(id messages.RequestID, actions ...string) {
	r := &messages.Request{ID: id, Backend: f.backend, Workspace: "ws", Source: messages.Source{Repo: study, Branch: "main", Commit: f.commit}, Actions: actions}
	if err := f.conn.Publish(f.ctx, r.Subject(), r, ""); err != nil {
		f.fatalf("%v", err)
	}
}

func (f *fleet) cancel(id messages.RequestID) {
	c := &messages.Cancel{Request: id, Backend: f.backend, Workspace: "ws"}
	if err := f.conn.Publish(f.ctx, c.Subject(), c, ""); err != nil {
		f.fatalf("%v", err)
	}
}

// errorf notes what is wrong; fatalf also ends the play.
func (f *fleet) errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failures = append(f.failures, fmt.Sprintf(format, args...))
}

func (f *fleet) fatalf(format string, args ...any) {
	f.errorf(format, args...)
	runtime.Goexit()
}

// await tries until it works or the play's time is over.
func (f *fleet) await(what string, try func() error) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-f.ctx.Done():
			f.fatalf("waited in vain until %s: %v", what, err)
		case <-tick.C:
		}
	}
}

// clear ends all processes, and takes away what a failed play has left.
func (f *fleet) clear() {
	for _, p := range f.processes {
		if p.over != nil {
			p.signal(syscall.SIGCONT)
			p.stop(syscall.SIGKILL)
		}
	}
	if out, err := exec.Command("docker", "ps", "-aq", "--filter", "label=sluice.backend="+f.backend).Output(); err == nil && len(out) > 0 {
		_ = exec.Command("docker", append([]string{"rm", "-f"}, strings.Fields(string(out))...)...).Run()
	}
	data, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(data)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], f.dir+"/") {
			_ = syscall.Unmount(fields[1], syscall.MNT_DETACH)
		}
	}
}

// describe prints the ends of all logs.
func (f *fleet) describe(t *testing.T) {
	for name, p := range f.processes {
		lines := strings.Split(strings.TrimSpace(p.log()), "\n")
		t.Logf("%s, %d lives:\n%s", name, p.lives, strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}
