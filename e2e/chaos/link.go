package main

import (
	"net"
	"sync"
	"time"
)

// A link is how one service reaches the servers, or a worker its engine: a relay
// for each of them, which can be cut or stalled.
type link struct {
	addrs []string   // of the relays, on this machine
	busy  sync.Mutex // held by the fault that is at work on an engine's link

	mu      sync.Mutex
	open    map[net.Conn]bool
	refused bool
	flow    chan struct{} // closed while bytes flow

	listeners []net.Listener
}

// newLink listens for each of the targets, servers on this machine.
func newLink(targets []string) (*link, error) {
	l := &link{open: map[net.Conn]bool{}, flow: make(chan struct{})}
	close(l.flow)
	for _, target := range targets {
		if err := l.listen("tcp", "127.0.0.1:0", target); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// newSocket listens on a socket for another one.
func newSocket(near, target string) (*link, error) {
	l := &link{open: map[net.Conn]bool{}, flow: make(chan struct{})}
	close(l.flow)
	return l, l.listen("unix", near, target)
}

func (l *link) listen(network, near, target string) error {
	ln, err := net.Listen(network, near)
	if err != nil {
		return err
	}
	l.listeners = append(l.listeners, ln)
	l.addrs = append(l.addrs, ln.Addr().String())
	go l.serve(ln, target)
	return nil
}

func (l *link) serve(ln net.Listener, target string) {
	for {
		near, err := ln.Accept()
		if err != nil {
			return // closed
		}
		go l.relay(near, target)
	}
}

func (l *link) relay(near net.Conn, target string) {
	defer near.Close()
	l.mu.Lock()
	refused := l.refused
	l.mu.Unlock()
	if refused {
		return
	}
	far, err := net.DialTimeout(near.LocalAddr().Network(), target, 2*time.Second)
	if err != nil {
		return
	}
	defer far.Close()
	if !l.add(near, far) {
		return
	}
	defer l.remove(near, far)
	pump := func(to, from net.Conn) {
		defer func() { _ = to.(interface{ CloseWrite() error }).CloseWrite() }() // the other direction may go on
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			l.mu.Lock()
			flow := l.flow
			l.mu.Unlock()
			<-flow
			if n > 0 {
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() { pump(near, far) })
	both.Go(func() { pump(far, near) })
	both.Wait()
}

func (l *link) add(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.open[c] = true
	}
	return !l.refused
}

func (l *link) remove(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		delete(l.open, c)
	}
}

// cut breaks all connections, and lets none be made until mend.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = true
	for c := range l.open {
		_ = c.Close() // that is what is meant
	}
}

// stall keeps connections, and everything that is sent, until mend.
func (l *link) stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flow = make(chan struct{})
}

// mend undoes cut and stall.
func (l *link) mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused = false
	select {
	case <-l.flow:
	default:
		close(l.flow)
	}
}

func (l *link) close() {
	l.mend()
	for _, ln := range l.listeners {
		_ = ln.Close()
	}
	l.cut()
}
