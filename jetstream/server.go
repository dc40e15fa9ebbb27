package jetstream

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"
)

// ServerOptions describe an embedded server.
type ServerOptions struct {
	Name     string
	StoreDir string
	Listen   string // host:port; empty means this process only; port 0 means any
	MaxStore int64  // bytes
	NoSync   bool   // leave syncing to the system: a power cut loses the last two minutes
	Log      zerolog.Logger
}

// A Server is a NATS server in this process.
type Server struct {
	ns   *server.Server
	lock *os.File
	dir  string
}

// Serve starts a server and waits until it takes connections. Acknowledged
// messages are on the disk unless NoSync is set. Two processes cannot serve one
// store.
func Serve(o ServerOptions) (*Server, error) {
	if err := os.MkdirAll(o.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store of the NATS server: %w", err)
	}
	lock, err := lockDir(o.StoreDir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, dir: o.StoreDir}
	if err := s.start(o); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// readyWait bounds a start. Reading a store back takes about a second for each
// million messages.
const readyWait = 2 * time.Minute

func (s *Server) start(o ServerOptions) error {
	opts := &server.Options{
		ServerName:             o.Name,
		DontListen:             o.Listen == "",
		NoSigs:                 true,
		JetStream:              true,
		StoreDir:               o.StoreDir,
		JetStreamMaxStore:      o.MaxStore,
		JetStreamMaxMemory:     64 << 20,
		SyncAlways:             !o.NoSync,
		DisableJetStreamBanner: true,
		MaxPayload:             2 << 20, // as deploy/nats has it
	}
	if o.Listen != "" {
		var err error
		if opts.Host, opts.Port, err = hostPort(o.Listen); err != nil {
			return err
		}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return fmt.Errorf("make the NATS server: %w", err)
	}
	s.ns = ns
	fatal := make(chan string, 1)
	ns.SetLoggerV2(serverLog{o.Log, fatal}, o.Log.GetLevel() <= zerolog.DebugLevel, false, false)
	ns.Start() // returns once streams are recovered and the port is taken, or with a fatal line
	select {
	case why := <-fatal:
		return fmt.Errorf("start the NATS server on %s: %s", o.StoreDir, why)
	default:
	}
	if !ns.ReadyForConnections(readyWait) || !ns.JetStreamEnabled() {
		return fmt.Errorf("the NATS server on %s did not become ready", o.StoreDir)
	}
	return nil
}

func hostPort(listen string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address: %w", err)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %s: the port is not a number from 0 to 65535", listen)
	}
	if n == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(n), nil
}

// InProcessConn implements nats.InProcessConnProvider.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// URL is where clients connect.
func (s *Server) URL() string { return s.ns.ClientURL() }

// StoreDir is where the server keeps its streams.
func (s *Server) StoreDir() string { return s.dir }

// Stop stops the server and waits for its files to be closed. It may be called
// again.
func (s *Server) Stop() {
	if s.ns != nil {
		s.ns.Shutdown()
		s.ns.WaitForShutdown()
	}
	_ = s.lock.Close() // ends the lock; nothing was written through it
}

// lockDir takes the store for this process: two servers on one store destroy it.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the store of the NATS server: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is in use by another sluice process", dir), f.Close())
	}
	return f, nil
}

// serverLog hands the server's lines to our logger. What is fatal to the server
// it does not outlive its start with.
type serverLog struct {
	log   zerolog.Logger
	fatal chan<- string
}

func (l serverLog) Noticef(f string, v ...any) { l.log.Debug().Msgf("nats: "+f, v...) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Warn().Msgf("nats: "+f, v...) }
func (l serverLog) Errorf(f string, v ...any)  { l.log.Error().Msgf("nats: "+f, v...) }
func (l serverLog) Debugf(f string, v ...any)  { l.log.Debug().Msgf("nats: "+f, v...) }
func (l serverLog) Tracef(string, ...any)      {}

func (l serverLog) Fatalf(f string, v ...any) {
	l.log.Error().Msgf("nats: "+f, v...)
	select {
	case l.fatal <- fmt.Sprintf(f, v...):
	default:
	}
}
