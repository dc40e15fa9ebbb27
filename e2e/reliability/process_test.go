package reliability

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is one service, started again when it is killed, as an init system
// would do.
type process struct {
	f      *fleet
	name   string
	path   string // of its program
	args   []string
	env    []string
	faults []string      // of each life; none after the last
	pause  time.Duration // between two lives
	before func()        // called between two lives

	mu      sync.Mutex
	cmd     *exec.Cmd
	lives   int
	again   bool // it is to end by itself, and to be started again
	stopped bool
	quit    chan struct{} // closed when it is to be stopped
	over    chan struct{} // closed when it is not started again
}

// start begins a service's first life.
func (p *process) start() {
	p.quit, p.over = make(chan struct{}), make(chan struct{})
	if err := p.live(); err != nil {
		p.f.fatalf("start %s: %v", p.name, err)
	}
	go func() {
		defer close(p.over)
		for p.wait() {
			if p.before != nil {
				p.before()
			}
			select {
			case <-time.After(p.pause):
			case <-p.quit:
				return
			}
			if err := p.live(); err != nil {
				p.f.errorf("start %s again: %v", p.name, err)
				return
			}
		}
	}()
}

// live starts the process once.
func (p *process) live() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return nil
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.path, p.args...)
	p.cmd.Env = append(append(os.Environ(), p.f.env...), p.env...)
	fault := ""
	if p.lives < len(p.faults) {
		fault = p.faults[p.lives]
	}
	p.cmd.Env = append(p.cmd.Env, "SLUICE_FAULT="+fault, "SLUICE_FAULT_DIR="+p.f.hits(p.name))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p.lives++
	return p.cmd.Start()
}

// wait waits for a life's end, and reports whether there is to be another.
func (p *process) wait() bool {
	p.mu.Lock()
	cmd := p.cmd
	p.mu.Unlock()
	err := cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	if p.again && err == nil {
		p.again = false
		return true
	}
	if cmd.ProcessState.Exited() {
		p.f.errorf("%s ended by itself: %v", p.name, err)
		return false
	}
	return true
}

// signal sends a signal to the process.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(s)
}

// restart has the process end in order, and waits until it is started again.
func (p *process) restart() {
	p.mu.Lock()
	p.again = true
	before := p.lives
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	p.mu.Unlock()
	p.awaitLife(before + 1)
}

// kill kills the process, and waits until it is started again.
func (p *process) kill() {
	p.mu.Lock()
	before := p.lives
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	p.mu.Unlock()
	p.awaitLife(before + 1)
}

func (p *process) awaitLife(n int) {
	p.f.await(fmt.Sprintf("%s is started for the %d. time", p.name, n), func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.lives < n {
			return fmt.Errorf("it was started %d times", p.lives)
		}
		return nil
	})
}

// stop ends the process for good.
func (p *process) stop(s syscall.Signal) {
	p.mu.Lock()
	if !p.stopped {
		close(p.quit)
	}
	p.stopped = true
	_ = p.cmd.Process.Signal(s)
	p.mu.Unlock()
	<-p.over
}

func (p *process) logFile() string { return filepath.Join(p.f.dir, p.name+".log") }

func (p *process) log() string {
	data, _ := os.ReadFile(p.logFile())
	return string(data)
}

// awaitHit waits until the process has reached a fault point at which it was
// asked to do something.
func (p *process) awaitHit(point string) {
	p.f.await(fmt.Sprintf("%s reaches %s", p.name, point), func() error {
		_, err := os.Stat(filepath.Join(p.f.hits(p.name), point+".hit"))
		return err
	})
}

// letGo lets a process that hangs at a fault point go on.
func (p *process) letGo(point string) {
	if err := os.WriteFile(filepath.Join(p.f.hits(p.name), point+".go"), nil, 0o644); err != nil {
		p.f.fatalf("%v", err)
	}
}

// awaitLog waits until the process has logged a text.
func (p *process) awaitLog(text string) { p.awaitLogs(text, 1) }

// awaitLogs waits until all lives together have logged a text n times.
func (p *process) awaitLogs(text string, n int) {
	p.f.await(fmt.Sprintf("%s logs %q", p.name, text), func() error {
		if got := strings.Count(p.log(), text); got < n {
			return fmt.Errorf("it has %d times, want %d", got, n)
		}
		return nil
	})
}
