package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A process is one of the fleet's. It is started again whenever it ends, until
// it is told to stop.
type process struct {
	name string
	path string
	args []string
	env  func(start int) []string // of the start with this number, from 1
	log  *log
	dir  string // of its output

	busy sync.Mutex // held by the fault that is at work on it

	mu       sync.Mutex
	cmd      *exec.Cmd
	ended    chan struct{} // closed when cmd has ended
	starts   int
	stopping bool
	pause    time.Duration // before the next start
	asked    bool          // the end of this run was asked for
	done     chan struct{} // closed when it is not started again
	faults   []string      // what it did that it should not have
}

// run starts the process, and starts it again, in the background.
func (p *process) run() {
	p.done = make(chan struct{})
	started := make(chan struct{})
	go func() {
		defer close(p.done)
		for first := true; ; first = false {
			if !p.start() {
				if first {
					close(started)
				}
				return
			}
			if first {
				close(started)
			}
			p.await()
			p.mu.Lock()
			pause := p.pause
			p.pause = 200 * time.Millisecond
			p.mu.Unlock()
			time.Sleep(pause)
		}
	}()
	<-started
}

func (p *process) start() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopping {
		return false
	}
	p.starts++
	out, err := os.OpenFile(filepath.Join(p.dir, p.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // for people
	if err != nil {
		p.faults = append(p.faults, err.Error())
		return false
	}
	defer out.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env(p.starts), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt of this program is not theirs
	if err := cmd.Start(); err != nil {
		p.faults = append(p.faults, err.Error())
		return false
	}
	p.cmd, p.ended, p.asked = cmd, make(chan struct{}), false
	return true
}

// await waits for the end of a run, and judges it.
func (p *process) await() {
	err := p.cmd.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.ended)
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && !exit.Exited() && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	switch {
	case p.asked && (err == nil || killed || strings.HasPrefix(p.name, "nats")):
	case killed:
		p.log.say("%s died at a fault point %s", p.name, p.hit())
	default:
		p.faults = append(p.faults, fmt.Sprintf("%s ended with %v (asked: %v); %s.log says why", p.name, err, p.asked, p.name))
		p.log.say("%s ENDED WITH %v", p.name, err)
	}
}

// hit names the fault points of this process, as it notes them.
func (p *process) hit() string {
	newest, at := "", time.Time{}
	notes, _ := filepath.Glob(filepath.Join(p.dir, p.name+".faults", "*.hit")) // none if that fails
	for _, note := range notes {
		if info, err := os.Stat(note); err == nil && info.ModTime().After(at) {
			newest, at = strings.TrimSuffix(filepath.Base(note), ".hit"), info.ModTime()
		}
	}
	return newest
}

// endHangs kills each run that hangs at a fault point, after a time that its
// lease may or may not outlive: nobody else ends it.
func (p *process) endHangs(dir string, r *rand.Rand) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		point, pid := p.hangs(dir)
		if point == "" {
			continue
		}
		hold := time.Second + time.Duration(r.Float64()*float64(leaseTTL+leaseGrace+3*time.Second))
		p.log.say("%s hangs at %s, %.1f s", p.name, point, hold.Seconds())
		select {
		case <-p.done:
			return
		case <-time.After(hold):
		}
		p.mu.Lock()
		if p.cmd.Process.Pid == pid { // not another run
			p.asked = true
			_ = p.cmd.Process.Kill() // ended already, if that fails
		}
		p.mu.Unlock()
	}
}

// hangs names the fault point at which the run of now hangs, if it does.
func (p *process) hangs(dir string) (point string, pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return "", 0
	}
	pid = p.cmd.Process.Pid
	notes, _ := filepath.Glob(filepath.Join(dir, "*.hit")) // none if that fails
	for _, note := range notes {
		text, _ := os.ReadFile(note)
		if strings.Contains("\n"+string(text), fmt.Sprintf("\n%d hang\n", pid)) {
			return strings.TrimSuffix(filepath.Base(note), ".hit"), pid
		}
	}
	return "", pid
}

// signal sends a signal to the run of now; what ends it is asked for.
func (p *process) signal(sig syscall.Signal, ends bool, pause time.Duration) (ended <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		c := make(chan struct{})
		close(c)
		return c
	}
	if ends {
		p.asked, p.pause = true, pause
	}
	_ = p.cmd.Process.Signal(sig) // ended already, if that fails
	return p.ended
}

// restart stops this run in order, and holds the next one back. A process that
// takes too long is at fault, and killed.
func (p *process) restart(hold time.Duration) {
	ended := p.signal(syscall.SIGTERM, true, hold)
	select {
	case <-ended:
	case <-time.After(patience):
		p.mu.Lock()
		p.faults = append(p.faults, fmt.Sprintf("%s did not stop within %v of SIGTERM", p.name, patience))
		p.mu.Unlock()
		p.log.say("%s DOES NOT STOP", p.name)
		<-p.signal(syscall.SIGKILL, true, hold)
	}
}

// end stops the process for good.
func (p *process) end() {
	p.mu.Lock()
	p.stopping = true
	p.mu.Unlock()
	if p.done == nil {
		return
	}
	p.restart(0)
	<-p.done
}
