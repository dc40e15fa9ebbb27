package docker

import (
	"time"

	"sluice/messages"
	"sluice/worker"
)

// Bounds of what is kept waiting. A class that nobody asked for in a while
// costs memory for nothing, and keeps its image from being removed.
const (
	maxClasses = 4
	classIdle  = 15 * time.Minute
	few        = 2 // containers that wait in a class whose actions come one by one
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

// A stock is what waits in a class.
type stock struct {
	idle   []*slot
	making int
	want   int // how many are to wait: few, and one more for each action that found none
	used   time.Time
	rest   time.Time   // nothing is made before
	expiry *time.Timer // since it was used
	plenty *time.Timer // since an action found none
}

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
		s = &stock{want: min(few, p.most)}
		p.stocks[c] = s
		s.expiry = time.AfterFunc(classIdle, func() { p.expire(c) })
		s.plenty = time.AfterFunc(classIdle, func() { p.shrink(c) })
		p.bound(c)
	}
	s.used = time.Now()
	s.expiry.Reset(classIdle)
	return s
}

// take returns a container of a class that waits, or nil. From now on there
// will be some of the class, and one more since there was none.
func (p *parking) take(c class) *slot {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	_, known := p.stocks[c]
	s := p.stock(c)
	broken := false
	for len(s.idle) > 0 {
		first := s.idle[0]
		s.idle = s.idle[1:]
		if first.waits() {
			return first
		}
		broken = true
		p.all.Go(func() { p.discard(first) })
	}
	if known && !broken && time.Now().After(s.rest) {
		s.want = min(s.want+1, p.most)
		s.plenty.Reset(classIdle)
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

// shrink has few of a class wait again.
func (p *parking) shrink(c class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stocks[c]
	if s == nil || p.closed {
		return
	}
	s.want = min(few, p.most)
	p.trim(s, s.want)
}

// trim takes away what waits beyond so many. Called with mu held.
func (p *parking) trim(s *stock, most int) {
	for len(s.idle) > most {
		last := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		p.all.Go(func() { p.discard(last) })
	}
}

// kept reports whether a stock is still that of its class. Called with mu held.
func (p *parking) kept(c class, s *stock) bool { return !p.closed && p.stocks[c] == s }

// drop forgets a class. Called with mu held.
func (p *parking) drop(c class) {
	s := p.stocks[c]
	delete(p.stocks, c)
	s.expiry.Stop()
	s.plenty.Stop()
	p.trim(s, 0)
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
