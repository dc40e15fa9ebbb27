package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/spread"
	"sluice/messages"
	"sluice/worker"
	"sluice/worker/docker/waiter"
)

// Bounds of what is kept waiting. A class that nobody asked for in a while
// costs memory for nothing, and keeps its image from being removed.
const (
	maxClasses   = 4
	classIdle    = 15 * time.Minute
	refillLatest = time.Second      // after a container was taken, if its end does not come first
	failedPause  = 10 * time.Minute // after containers of a class could not be made
)

// A class is all that is fixed when a container is made. A waiting container
// becomes a job's only if every one of these is the job's own.
type class struct {
	ref      string // the image's name
	image    string // its id: a name that moved to another image is another class
	uid, gid int
	limits   messages.Limits // but for Time, which the engine does not know
	backend  string
}

// A parking keeps containers that were started in advance, each of which waits
// for one command, is used once, and belongs to this process: when the process
// dies they end. See docs/decisions/5-parked-containers.md.
type parking struct {
	r       *Runtime
	most    int    // containers that wait in each class
	dir     string // of this process's
	epoch   string
	program []byte
	lock    *os.File
	making  chan struct{} // holds as many as may be made at a time
	all     sync.WaitGroup
	life    context.Context
	end     context.CancelFunc

	mu     sync.Mutex
	next   int
	stocks map[class]*stock
	lost   map[string]bool // labels of containers that may be there all the same
	closed bool
}

// A stock is what waits in a class.
type stock struct {
	idle   []*slot
	making int
	used   time.Time
	rest   time.Time // nothing is made before
	expiry *time.Timer
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
	p := &parking{r: r, most: r.cfg.Parked, epoch: randomHex(8), program: program, making: make(chan struct{}, max(runtime.NumCPU(), 2)), stocks: map[class]*stock{}, lost: map[string]bool{}}
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

// classOf returns the class of a container, if one of its kind may be made in
// advance: it has no network, and its image is known by its contents.
func (r *Runtime) classOf(spec worker.Spec) (class, imageFacts, bool) {
	r.mu.Lock()
	facts, known := r.images[spec.Digest]
	r.mu.Unlock()
	if !known || spec.Digest == "" || spec.Network.Name != "" {
		return class{}, facts, false
	}
	c := class{ref: r.ref(spec.Image), image: facts.id, uid: spec.UID, gid: spec.GID, limits: spec.Limits, backend: spec.Attempt.Backend}
	c.limits.Time = 0
	return c, facts, true
}

// stock returns what waits in a class, which is asked for now. Called with mu
// held.
func (p *parking) stock(c class) *stock {
	s := p.stocks[c]
	if s == nil {
		s = &stock{}
		p.stocks[c] = s
		s.expiry = time.AfterFunc(classIdle, func() { p.expire(c) })
		p.bound(c)
	}
	s.used = time.Now()
	s.expiry.Reset(classIdle)
	return s
}

// take returns a container of a class that waits, or nil. From now on there
// will be some of the class.
func (p *parking) take(c class) *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	s := p.stock(c)
	for len(s.idle) > 0 {
		first := s.idle[0]
		s.idle = s.idle[1:]
		if first.waits() {
			return first
		}
		p.all.Go(func() { p.discard(first) })
	}
	return nil
}

// bound drops the class that was used longest ago when there are too many.
// Called with mu held.
func (p *parking) bound(but class) {
	if len(p.stocks) <= maxClasses {
		return
	}
	var oldest class
	var at time.Time
	for c, s := range p.stocks {
		if c != but && (at.IsZero() || s.used.Before(at)) {
			oldest, at = c, s.used
		}
	}
	p.drop(oldest)
}

func (p *parking) expire(c class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.stocks[c]; s != nil && !p.closed && time.Since(s.used) >= classIdle {
		p.drop(c)
	}
}

// drop forgets a class. Called with mu held.
func (p *parking) drop(c class) {
	s := p.stocks[c]
	delete(p.stocks, c)
	s.expiry.Stop()
	for _, slot := range s.idle {
		p.all.Go(func() { p.discard(slot) })
	}
}

// moved drops the classes of an image's name that are of other contents than
// it has now.
func (p *parking) moved(ref, image string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.stocks {
		if c.ref == ref && c.image != image && !p.closed {
			p.drop(c)
		}
	}
}

// refill makes what a class lacks, in the background.
func (p *parking) refill(c class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stocks[c]
	if p.closed || s == nil || time.Now().Before(s.rest) {
		return
	}
	for len(s.idle)+s.making < p.most {
		s.making++
		p.all.Go(func() { p.add(c, s) })
	}
}

// add makes one container and puts it with its class, if that is still wanted.
func (p *parking) add(c class, s *stock) {
	var made *slot
	err := context.Canceled
	select {
	case p.making <- struct{}{}:
		made, err = p.makeSlot(c)
		<-p.making
	case <-p.life.Done():
	}
	p.mu.Lock()
	s.making--
	wanted := !p.closed && p.stocks[c] == s
	switch {
	case err == nil && wanted:
		s.idle = append(s.idle, made)
		made = nil
	case err != nil && wanted:
		s.rest = time.Now().Add(failedPause)
		p.r.cfg.Log.Warn().Err(err).Str("image", c.ref).Msg("no container could be started in advance; actions' containers are made when they are needed")
	}
	p.mu.Unlock()
	if made != nil {
		p.discard(made)
	}
}

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

// discard takes a waiting container away. What is left is swept later.
func (p *parking) discard(s *slot) {
	if err := s.destroy(); err != nil {
		p.r.cfg.Log.Warn().Err(err).Str("container", s.id[:12]).Msg("a container that was started in advance could not be removed")
	}
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
