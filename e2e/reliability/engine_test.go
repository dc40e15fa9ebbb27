package reliability

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"sluice/messages"
)

// An engineProxy stands before the engine, and keeps the answers back when it is
// told to: connections stay open, and requests are done. Or it keeps a request
// back that makes a container.
type engineProxy struct {
	listener net.Listener

	mu   sync.Mutex
	pass chan struct{} // closed while answers pass
	keep bool          // the next request that makes a container
	kept chan []byte   // what was kept back
}

func (f *fleet) engine() *engineProxy {
	l, err := net.Listen("unix", filepath.Join(f.dir, "engine.sock"))
	if err != nil {
		f.fatalf("%v", err)
	}
	f.t.Cleanup(func() { _ = l.Close() })
	p := &engineProxy{listener: l, pass: make(chan struct{}), kept: make(chan []byte, 1)}
	close(p.pass)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(client)
		}
	}()
	return p
}

func (p *engineProxy) serve(client net.Conn) {
	engine, err := net.Dial("unix", "/var/run/docker.sock")
	if err != nil {
		_ = client.Close()
		return
	}
	var both sync.WaitGroup
	copyAll := func(to, from net.Conn, wait func([]byte)) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			wait(buf[:n])
			if _, writeErr := to.Write(buf[:n]); err != nil || writeErr != nil {
				if end, ok := to.(*net.UnixConn); ok {
					_ = end.CloseWrite()
				}
				return
			}
		}
	}
	both.Go(func() { copyAll(engine, client, p.pick) })
	both.Go(func() { copyAll(client, engine, func([]byte) { p.wait() }) })
	both.Wait()
	_ = errors.Join(client.Close(), engine.Close())
}

func (p *engineProxy) wait() {
	p.mu.Lock()
	pass := p.pass
	p.mu.Unlock()
	<-pass
}

// pick keeps a request back for ever, if it is the one to be kept.
func (p *engineProxy) pick(request []byte) {
	line, _, _ := bytes.Cut(request, []byte(" HTTP/"))
	p.mu.Lock()
	keep := p.keep && bytes.Contains(line, []byte("/containers/create?name="))
	p.keep = p.keep && !keep
	p.mu.Unlock()
	if keep {
		p.kept <- bytes.Clone(request)
		select {}
	}
}

func (p *engineProxy) hang() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pass = make(chan struct{})
}

func (p *engineProxy) keepNext() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = true
}

func (p *engineProxy) answer() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.pass)
}

// TestEngineHangs: a start that the engine does not answer is given up with a
// bound, the worker takes nothing meanwhile, and what the engine made of it
// after all is removed. A container that runs meanwhile goes on.
func TestEngineHangs(t *testing.T) {
	scene{"engine-hangs", func(f *fleet) {
		engine := f.engine()
		w := f.worker("worker", "worker.after-stage=hang@2")
		w.env = []string{"SLUICE_PARKED=0", "DOCKER_HOST=unix://" + engine.listener.Addr().String(), "SLUICE_ENGINE_TIMEOUT=10s"}
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.request("r1", "gated")
		f.seen("r1", "gated", messages.Executing)
		box := f.running()
		f.request("r2", "make")
		w.awaitHit("worker.after-stage")
		engine.hang()
		w.letGo("worker.after-stage")
		w.awaitLog("attempt failed by a fault of ours")
		w.awaitLog("worker takes nothing until this is mended")
		engine.answer()
		f.openGate(box)
		f.finished("r1")
		f.finished("r2")
		f.settled()
		f.wantJobs("r1", map[string]string{"gated": "succeeded/1"})
		f.wantJobs("r2", map[string]string{"make": "succeeded/2"})
		f.wantGated("r1", highFirst, mediumFirst)
	}, []edit{{"worker/sweep.go", `!w.suspects(time.Now())`, `w != nil`}}}.run(t)
}

// TestEngineMakesLate: a worker dies while the engine makes a container for it,
// and the next one finds none. When there is one after all, it is removed.
func TestEngineMakesLate(t *testing.T) {
	scene{"engine-makes-late", func(f *fleet) {
		engine := f.engine()
		w := f.worker("worker")
		w.env = []string{"SLUICE_PARKED=0", "DOCKER_HOST=unix://" + engine.listener.Addr().String()}
		f.start(f.planner("planner"), w, f.persister("persister"))
		engine.keepNext()
		f.request("r1", "make")
		request := <-engine.kept
		w.kill()
		w.awaitLog("and it has no container")
		f.createLate(request)
		w.awaitLog("container of no attempt is removed")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"make": "succeeded/2"})
		f.wantTiers(highFirst, mediumFirst)
	}, []edit{{"worker/resume.go", `w.suspect()`, `_ = w.suspect`}, {"worker/sweep.go", `!w.suspects(time.Now())`, `w != nil`}}}.run(t)
}

// createLate makes the container that was asked for, as an engine does that had
// looked for its workspace before that was removed.
func (f *fleet) createLate(request []byte) {
	_, body, _ := bytes.Cut(request, []byte("\r\n\r\n"))
	var asked struct {
		Image  string
		Labels map[string]string
	}
	if err := json.NewDecoder(bytes.NewReader(body)).Decode(&asked); err != nil {
		f.fatalf("%v in %s", err, request)
	}
	args := []string{"create"}
	for k, v := range asked.Labels {
		args = append(args, "--label", k+"="+v)
	}
	if out, err := exec.Command("docker", append(args, asked.Image, "true")...).CombinedOutput(); err != nil {
		f.fatalf("docker create: %v: %s", err, out)
	}
}

// TestEngineComesLate: a worker that is started again while its engine is
// away keeps the lease of what runs, and goes on when it is back.
func TestEngineComesLate(t *testing.T) {
	scene{"engine-late", func(f *fleet) {
		engine := f.engine()
		w := f.worker("worker")
		w.env = []string{"SLUICE_PARKED=0", "DOCKER_HOST=unix://" + engine.listener.Addr().String(), "SLUICE_ENGINE_TIMEOUT=10s"}
		for _, p := range []*process{f.planner("planner"), w, f.persister("persister")} {
			p.start()
		}
		f.request("r1", "gated")
		f.seen("r1", "gated", messages.Executing)
		box := f.running()
		_ = engine.listener.Close() // nobody answers at its socket
		w.kill()
		w.awaitLog("worker takes nothing until this is mended")
		key := messages.LeaseKey(f.backend, messages.NewJobID("r1", "gated"), 1)
		before, err := f.conn.LeasesRegister().Get(f.ctx, key)
		if err != nil {
			f.fatalf("lease: %v", err)
		}
		f.await("the lease has been renewed all the while", func() error { // for longer than lease and grace
			e, err := f.conn.LeasesRegister().Get(f.ctx, key)
			if err == nil && e.At.Sub(before.At) < f.ttl+f.grace {
				err = fmt.Errorf("it was renewed at %s", e.At)
			}
			return err
		})
		f.openGate(box)
		f.engine()
		f.request("r2", "make") // its workspace is made as the engine sees it
		f.finished("r1")
		f.finished("r2")
		f.settled()
		f.wantJobs("r1", map[string]string{"gated": "succeeded/1"})
		f.wantJobs("r2", map[string]string{"make": "succeeded/1"})
		f.wantGated("r1", highFirst, mediumFirst)
		w.died(1)
	}, []edit{{"internal/cli/services.go", `staging: stage, waits: true}`, `staging: stage}`}}}.run(t)
}

// TestImageVanishes: an image that is removed between the look at it and the
// start is no fault of ours for ever: the next attempt says that it is not there.
func TestImageVanishes(t *testing.T) {
	scene{"image-vanishes", func(f *fleet) {
		vanishing := images + "vanishing:v1"
		docker := func(args ...string) {
			if out, err := exec.Command("docker", args...).CombinedOutput(); err != nil {
				f.fatalf("docker %v: %v: %s", args, err, out)
			}
		}
		docker("tag", images+"sh:v1", vanishing)
		w := f.worker("worker", "worker.after-stage=hang")
		f.start(f.planner("planner"), w, f.persister("persister"))
		f.commit = vanished
		f.request("r1", "vanish")
		w.awaitHit("worker.after-stage")
		docker("image", "rm", vanishing)
		w.letGo("worker.after-stage")
		f.finished("r1")
		f.settled()
		f.wantJobs("r1", map[string]string{"vanish": "job_error/2"})
		if m := f.job("r1", "vanish").Message; !strings.Contains(m, "vanishing:v1") {
			f.errorf("the reader is told %q", m)
		}
		f.wantStarts(0)
	}, []edit{{"worker/steps.go", `		look <- err`, `		_ = err
		look <- nil`}}}.run(t)
}
