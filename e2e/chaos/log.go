package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// A log tells what happens, with seconds since the run's start.
type log struct {
	mu    sync.Mutex
	to    io.Writer
	name  string
	began time.Time
}

func newLog(to io.Writer, name string) *log { return &log{to: to, name: name, began: time.Now()} }

func (l *log) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.to, "%6.1fs %s: %s\n", time.Since(l.began).Seconds(), l.name, fmt.Sprintf(format, args...))
}
