package docker

import "time"

// When containers are made that nobody waits for.
const (
	refillLatest = time.Second            // after a container was taken, if its end does not come first
	calmPause    = 100 * time.Millisecond // after no action waits for its own any more
	giveWayMost  = time.Minute            // at the latest, however busy the engine is
	failedPause  = 10 * time.Minute       // after containers of a class could not be made
)

// refillLater makes up for what was taken: not now, as the action that it was
// taken for needs the processors.
func (p *parking) refillLater(c class) {
	time.AfterFunc(refillLatest, func() { p.refill(c) })
}

// refill makes what a class lacks, in the background.
func (p *parking) refill(c class) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.stocks[c]
	if p.closed || s == nil || time.Now().Before(s.rest) {
		return
	}
	for len(s.idle)+s.making < s.want {
		s.making++
		p.all.Go(func() { p.add(c, s) })
	}
}

// add makes one container and puts it with its class, if that is still wanted.
func (p *parking) add(c class, s *stock) {
	var made *slot
	var err error
	select {
	case p.making <- struct{}{}:
		p.giveWay()
		if p.wanted(c, s) {
			made, err = p.makeSlot(c)
		}
		<-p.making
	case <-p.life.Done():
	}
	p.mu.Lock()
	s.making--
	switch kept := p.kept(c, s); {
	case made != nil && kept:
		s.idle = append(s.idle, made)
		made = nil
	case err != nil && kept:
		s.rest = time.Now().Add(failedPause)
		p.r.cfg.Log.Warn().Err(err).Str("image", c.ref).Msg("no container could be started in advance; actions' containers are made when they are needed")
	}
	p.mu.Unlock()
	if made != nil {
		p.discard(made)
	}
}

// wanted reports whether one more container is of use: the class is still kept,
// lacks one, and the last that was tried did not fail.
func (p *parking) wanted(c class, s *stock) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.kept(c, s) && len(s.idle) < s.want && !time.Now().Before(s.rest)
}

// hurry tells that an action waits for a container that is being made; what is
// returned, that it waits no longer.
func (p *parking) hurry() (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.urgent == 0 {
		p.calm = make(chan struct{})
	}
	p.urgent++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.urgent--; p.urgent == 0 {
			close(p.calm)
			p.calm = nil
		}
	}
}

// giveWay waits until no action waits for a container, or this process makes no
// more: to make one in advance meanwhile would delay that, and a burst would pay
// for containers that it does not use.
func (p *parking) giveWay() {
	late := time.After(giveWayMost)
	for {
		p.mu.Lock()
		calm := p.calm
		p.mu.Unlock()
		if calm == nil {
			return
		}
		select {
		case <-calm:
		case <-late:
			return
		case <-p.life.Done():
			return
		}
		select {
		case <-time.After(calmPause):
		case <-p.life.Done():
			return
		}
	}
}

// discard takes a waiting container away, a few at a time. What is left is swept
// later.
func (p *parking) discard(s *slot) {
	p.ending <- struct{}{}
	defer func() { <-p.ending }()
	if err := s.destroy(); err != nil {
		p.r.cfg.Log.Warn().Err(err).Str("container", s.id[:12]).Msg("a container that was started in advance could not be removed")
	}
}
