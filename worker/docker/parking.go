package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"sluice/internal/spread"
	"sluice/worker/docker/waiter"
)

// A parking keeps containers that were started in advance, each of which waits
// for one command, is used once, and belongs to this process: when the process
// dies they end. See docs/decisions/5-parked-containers.md.
type parking struct {
	r       *Runtime
	most    int    // containers that may wait in each class
	dir     string // of this process's
	epoch   string
	program []byte
	lock    *os.File
	making  chan struct{} // holds as many as may be made at a time
	ending  chan struct{} // as many as may be removed
	all     sync.WaitGroup
	life    context.Context
	end     context.CancelFunc

	mu     sync.Mutex
	next   int
	urgent int           // containers that are being made for an action that waits for one
	calm   chan struct{} // closed when there are none of those any more; nil while there are none
	stocks map[class]*stock
	lost   map[string]bool // labels of containers that may be there all the same
	closed bool
}

// openParking finds out whether containers can be started in advance by this
// process; the error says why not.
func openParking(r *Runtime) (_ *parking, err error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("only root can mount a workspace into a container that runs")
	}
	program, err := waiter.Program()
	if err != nil {
		return nil, err
	}
	p := &parking{r: r, most: r.cfg.Parked, epoch: randomHex(8), program: program, making: make(chan struct{}, max(runtime.NumCPU(), 2)), ending: make(chan struct{}, 8), stocks: map[class]*stock{}, lost: map[string]bool{}}
	p.dir = filepath.Join(r.parked(), p.epoch)
	// The lock comes before the name that others see: a folder without a lock is
	// a dead process's.
	if err := os.MkdirAll(r.parked(), 0o700); err != nil {
		return nil, err
	}
	fresh := p.dir + ".new"
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(fresh)
		}
	}()
	if p.lock, err = os.OpenFile(filepath.Join(fresh, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB), os.Rename(fresh, p.dir)); err != nil {
		return nil, errors.Join(err, p.lock.Close())
	}
	spread.Mark(p.dir)
	p.life, p.end = context.WithCancel(context.Background())
	return p, nil
}

// parked is where this worker's waiting containers have their files.
func (r *Runtime) parked() string { return filepath.Join(r.cfg.Dir, "parked") }

// lose notes a container that the engine may have, or still make, without this
// process: Runtime.Find takes it away.
func (p *parking) lose(label string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lost[label] = true
}

// isLost reports whether a container was lost.
func (p *parking) isLost(label string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost[label]
}

// drain ends all that waits, and makes no more.
func (p *parking) drain() {
	p.mu.Lock()
	if !p.closed {
		for c := range p.stocks {
			p.drop(c)
		}
		p.closed = true
		p.end()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// close drains, and gives the folder up, which stays as long as containers that
// go on without this process have files in it.
func (p *parking) close() error {
	p.drain()
	if entries, err := os.ReadDir(p.dir); err == nil && len(entries) == 1 {
		_ = os.RemoveAll(p.dir)
	}
	if err := p.lock.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// name returns a folder for another container.
func (p *parking) name() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next++
	return fmt.Sprintf("%d", p.next)
}
