package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

const (
	backend    = "tpp" // one that deploy/nats has accounts for
	leaseTTL   = 4 * time.Second
	leaseGrace = 8 * time.Second
	password   = "chaos"
	workers    = 3
	slots      = 2 // of each worker

	engineTimeout = 5 * time.Second
)

// A fleet is the processes of one run.
type fleet struct {
	dir     string
	bin     string
	prefix  string // of images
	log     *log
	seed    uint64
	chance  float64 // of a fault point; 0 for none
	servers []*process
	client  []string // addresses of the servers
	all     []*service
	conn    *jetstream.Conn
	calm    atomic.Bool // no fault points from now on

	tierSize int64         // bytes
	mounted  []string      // tiers
	filling  [2]sync.Mutex // held by the fault that is at work on a tier

	struckMu sync.Mutex
	struck   map[string]int // blows, by kind of process
}

// A service is a planner, a worker or a persister, with its links.
type service struct {
	process
	link   *link
	engine *link // of a worker
}

// engines are the links of workers to their engine.
func (f *fleet) engines() (list []*service) {
	for _, s := range f.all {
		if s.engine != nil {
			list = append(list, s)
		}
	}
	return list
}

func (f *fleet) path(names ...string) string {
	return filepath.Join(append([]string{f.dir}, names...)...)
}

// up starts the servers, provisions them, and starts the services.
func (f *fleet) up(ctx context.Context) error {
	if err := os.MkdirAll(f.path("logs"), 0o755); err != nil {
		return err
	}
	if err := f.mountTiers(); err != nil {
		return err
	}
	if err := f.serve(); err != nil {
		return err
	}
	if err := f.provision(ctx); err != nil {
		return err
	}
	conn, err := jetstream.Connect(ctx, jetstream.Options{URL: strings.Join(f.client, ","), Name: "chaos", User: "admin", Password: password})
	if err != nil {
		return err
	}
	f.conn = conn
	tiers := []string{"--high", f.path("high"), "--staging", f.path("staging")}
	for i := range 2 {
		if err := f.add(i, "planner", "planner", "--mirrors", f.path("planner-"+fmt.Sprint(i))); err != nil {
			return err
		}
		if err := f.add(i, "persister", "persister-"+backend, append(tiers, "--medium", f.path("medium"))...); err != nil {
			return err
		}
	}
	for i := range workers {
		if err := f.add(i, "worker", "worker-"+backend, append(tiers, "--state", f.path(fmt.Sprintf("worker-%d", i)), "--slots", strconv.Itoa(slots), "--drain", "2s", "--stop-grace", "1s", "--no-pull")...); err != nil {
			return err
		}
	}
	return nil
}

// add starts a service that reaches the servers over a link of its own.
func (f *fleet) add(i int, command, user string, args ...string) error {
	l, err := newLink(f.client)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%d", command, i)
	env := append(os.Environ(), "SLUICE_NATS_URL="+strings.Join(l.addrs, ","), "SLUICE_NATS_USER="+user, "SLUICE_NATS_PASSWORD="+password, "SLUICE_NATS_API_PREFIX=FLEET.API",
		"SLUICE_NAME="+f.worker(i), "BACKEND="+backend, "BACKENDS="+backend, "SLUICE_IMAGE_PREFIX="+f.prefix, "ALLOW_LOCAL_GIT_REPOS=true", "SLUICE_MIN_FREE=1M",
		"SLUICE_LEASE_TTL="+leaseTTL.String(), "SLUICE_LEASE_GRACE="+leaseGrace.String(), "SLUICE_MAX_ATTEMPTS=100", "SLUICE_LOG_LEVEL=debug")
	var engine *link
	if command == "worker" {
		if engine, err = newSocket(f.path(name+".sock"), strings.TrimPrefix(cmp.Or(os.Getenv("DOCKER_HOST"), "/var/run/docker.sock"), "unix://")); err != nil {
			return err
		}
		env = append(env, "DOCKER_HOST=unix://"+engine.addrs[0], "SLUICE_ENGINE_TIMEOUT="+engineTimeout.String())
	}
	seed := f.seed<<8 + uint64(len(f.all))<<4
	s := &service{link: l, engine: engine, process: process{name: name, path: filepath.Join(f.bin, "sluice-faults"), args: append([]string{command}, args...), log: f.log, dir: f.path("logs"),
		env: func(start int) []string {
			if f.chance == 0 || f.calm.Load() {
				return env
			}
			return append(slices.Clone(env), "SLUICE_FAULT="+drawFaults(command, seed+uint64(start), f.chance), "SLUICE_FAULT_DIR="+f.path("logs", name+".faults")) //nolint:gosec // a few starts
		}}}
	if err := os.MkdirAll(f.path("logs", name+".faults"), 0o755); err != nil {
		return err
	}
	f.all = append(f.all, s)
	s.run()
	go s.endHangs(f.path("logs", name+".faults"), rand.New(rand.NewPCG(seed, 4))) //nolint:gosec // not a secret
	return nil
}

// worker names a worker, so that its containers can be told from those of
// others on this engine.
func (f *fleet) worker(i int) string {
	return fmt.Sprintf("%s-%d", strings.Trim(strings.ReplaceAll(f.prefix, "/", ""), "-"), i)
}

var variable = regexp.MustCompile(`\$(SLUICE_[A-Z_]+_PASSWORD)`)

// serve starts three servers with the configuration of deploy/. Its one change:
// servers do not tell clients of each other, who would go round their links.
func (f *fleet) serve() error {
	texts, err := filepath.Glob(filepath.Join(f.bin, "../deploy/nats/*.conf"))
	if err != nil {
		return err
	}
	passwords := map[string]bool{}
	for _, path := range texts {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range variable.FindAllStringSubmatch(string(text), -1) {
			passwords[m[1]] = true
		}
		quiet := strings.Replace(string(text), "cluster {\n", "cluster {\n  no_advertise: true\n", 1)
		if err := os.WriteFile(f.path(filepath.Base(path)), []byte(quiet), 0o600); err != nil {
			return err
		}
	}
	ports, err := freePorts(6)
	if err != nil {
		return err
	}
	var routes []string
	for i := range 3 {
		f.client = append(f.client, ports[i])
		routes = append(routes, "nats://route:"+password+"@"+ports[3+i])
	}
	for i := range 3 {
		name := fmt.Sprintf("nats-%d", i)
		env := append(os.Environ(), "SLUICE_NATS_NAME="+name, "SLUICE_NATS_LISTEN="+ports[i], "SLUICE_NATS_CLUSTER="+ports[3+i], "SLUICE_NATS_STORE="+f.path(name),
			"SLUICE_NATS_ROUTES=["+strings.Join(routes, ", ")+"]")
		for p := range passwords {
			env = append(env, p+"="+password)
		}
		s := &process{name: name, path: filepath.Join(f.bin, "nats-server"), args: []string{"-c", f.path("cluster.conf")}, log: f.log, dir: f.path("logs"), env: func(int) []string { return env }}
		f.servers = append(f.servers, s)
		s.run()
	}
	return nil
}

// provision makes the streams, as an operator does: as soon as the cluster has
// a leader.
func (f *fleet) provision(ctx context.Context) error {
	return await(ctx, 3*time.Minute, func() error {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		out, err := f.sluice(ctx, "topology", "--apply", "--replicas", "3")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// ready waits until all workers are there.
func (f *fleet) ready(ctx context.Context) error {
	return await(ctx, 2*time.Minute, func() error {
		n := 0
		err := f.conn.PresenceRegister().All(ctx, "worker."+backend+".*", func(e messages.Entry[messages.Presence]) {
			if e.Value != nil {
				n++
			}
		})
		if err == nil && n < workers {
			err = fmt.Errorf("%d of %d workers are there", n, workers)
		}
		return err
	})
}

// sluice runs a command of the administrator.
func (f *fleet) sluice(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(f.bin, "sluice-faults"), args...)
	cmd.Env = append(os.Environ(), "SLUICE_NATS_URL="+strings.Join(f.client, ","), "SLUICE_NATS_USER=admin", "SLUICE_NATS_PASSWORD="+password, "BACKENDS="+backend, "BACKEND="+backend)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// down stops everything, services first, and returns what went wrong in their
// lives.
func (f *fleet) down() error {
	var errs []error
	end := func(p *process) {
		p.end()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, fault := range p.faults {
			errs = append(errs, errors.New(fault))
		}
	}
	for _, s := range f.all {
		end(&s.process)
		s.link.close()
		if s.engine != nil {
			s.engine.close()
		}
	}
	if f.conn != nil {
		f.conn.Close()
	}
	for _, s := range f.servers {
		end(s)
	}
	return errors.Join(append(errs, f.unmountTiers())...)
}

// freePorts returns addresses that nothing listens on.
func freePorts(n int) ([]string, error) {
	var addrs []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer ln.Close()
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs, nil
}

// await tries until it works, at most for a time.
func await(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %w", limit, err)
		case <-tick.C:
		}
	}
}
