package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
)

// semaphores hold one place for each key, to be waited for with a context.
type semaphores struct {
	mu     sync.Mutex
	places map[string]chan struct{}
}

func (s *semaphores) take(ctx context.Context, key string) (release func(), err error) {
	s.mu.Lock()
	if s.places == nil {
		s.places = map[string]chan struct{}{}
	}
	place := s.places[key]
	if place == nil {
		place = make(chan struct{}, 1)
		s.places[key] = place
	}
	s.mu.Unlock()
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// locked runs work while nobody else writes to the mirror: no other caller of
// this process, and no other process. Git inherits the lock, so that it holds
// as long as a git lives whose own caller was killed.
func (m *Mirrors) locked(ctx context.Context, mir mirror, work func(lock *os.File) error) (err error) {
	release, err := m.locks.take(ctx, mir.dir)
	if err != nil {
		return fmt.Errorf("wait for mirror %s: %w", mir.dir, err)
	}
	defer release()
	if err := m.prepare(mir); err != nil {
		return err
	}
	lock, err := lockFile(ctx, mir.dir+".lock")
	if err != nil {
		return fmt.Errorf("wait for mirror %s: %w", mir.dir, err)
	}
	defer closing(lock, &err)
	return work(lock)
}

// lockFile opens a file and locks it. The system's call can't be interrupted:
// if ctx ends first, the lock is given back when it comes.
func lockFile(ctx context.Context, path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return f, nil
	}
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	got := make(chan error)
	go func() {
		err := flock(f, syscall.LOCK_EX)
		select {
		case got <- err:
		case <-ctx.Done():
			f.Close()
		}
	}()
	select {
	case err := <-got:
		if err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		return f, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func flock(f *os.File, how int) error {
	for {
		if err := syscall.Flock(int(f.Fd()), how); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// closing closes, and tells if that is the first thing to go wrong.
func closing(c io.Closer, err *error) {
	if e := c.Close(); *err == nil {
		*err = e
	}
}
