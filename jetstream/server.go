package jetstream

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
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
}

// Serve starts a server and waits until it takes connections. Acknowledged
// messages are on the disk unless NoSync is set.
func Serve(o ServerOptions) (*Server, error) {
	if err := os.MkdirAll(o.StoreDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the store of the NATS server: %w", err)
	}
	lock, err := lockDir(o.StoreDir)
	if err != nil {
		return nil, err
	}
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
		MaxPayload:             1 << 20,
	}
	if o.Listen != "" {
		host, port, err := net.SplitHostPort(o.Listen)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen address: %w", err), lock.Close())
		}
		opts.Host = host
		if _, err := fmt.Sscanf(port, "%d", &opts.Port); err != nil {
			return nil, errors.Join(fmt.Errorf("listen address %s: the port is not a number", o.Listen), lock.Close())
		}
		if opts.Port == 0 {
			opts.Port = server.RANDOM_PORT
		}
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the NATS server: %w", err), lock.Close())
	}
	ns.SetLoggerV2(serverLog{o.Log}, o.Log.GetLevel() <= zerolog.DebugLevel, false, false)
	ns.Start()
	s := &Server{ns: ns, lock: lock}
	if !ns.ReadyForConnections(30 * time.Second) {
		s.Stop()
		return nil, fmt.Errorf("the NATS server on %s did not become ready", o.StoreDir)
	}
	return s, nil
}

// InProcessConn implements nats.InProcessConnProvider.
func (s *Server) InProcessConn() (net.Conn, error) { return s.ns.InProcessConn() }

// URL is where clients connect.
func (s *Server) URL() string { return s.ns.ClientURL() }

// Stop stops the server and waits for its files to be closed.
func (s *Server) Stop() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
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

// serverLog hands the server's lines to our logger.
type serverLog struct{ log zerolog.Logger }

func (l serverLog) Noticef(f string, v ...any) { l.log.Debug().Msgf("nats: "+f, v...) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Warn().Msgf("nats: "+f, v...) }
func (l serverLog) Fatalf(f string, v ...any)  { l.log.Error().Msgf("nats: "+f, v...) }
func (l serverLog) Errorf(f string, v ...any)  { l.log.Error().Msgf("nats: "+f, v...) }
func (l serverLog) Debugf(f string, v ...any)  { l.log.Debug().Msgf("nats: "+f, v...) }
func (l serverLog) Tracef(f string, v ...any)  {}
