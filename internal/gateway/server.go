package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"time"

	"sluice/messages"
)

// A Listen says where the API is served.
type Listen struct {
	Address string // host:port; port 0 for any
	Cert    string // file, with those of its authorities
	Key     string // file
}

// config reads the certificate, if there is one. Without one only this machine
// can be listened on: tokens would cross the network in the clear.
func (l Listen) config() (*tls.Config, error) {
	if (l.Cert == "") != (l.Key == "") {
		return nil, errors.New("a certificate needs its key, and a key its certificate: name both files or none")
	}
	host, _, err := net.SplitHostPort(l.Address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is not an address such as 127.0.0.1:8080: %w", messages.Quote(l.Address), err)
	case l.Cert == "" && !loopback(host):
		return nil, fmt.Errorf("%s can be reached from other machines: name a certificate and its key, or listen on 127.0.0.1 behind a server that has them", l.Address)
	case l.Cert == "":
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(l.Cert, l.Key)
	if err != nil {
		return nil, fmt.Errorf("read the certificate %s and its key %s: %w", l.Cert, l.Key, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// Check reports what cannot work, without opening anything.
func (l Listen) Check() error {
	_, err := l.config()
	return err
}

// Open opens the address.
func (l Listen) Open() (net.Listener, error) {
	config, err := l.config()
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", l.Address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", l.Address, err)
	}
	if config != nil {
		return tls.NewListener(listener, config), nil
	}
	return listener, nil
}

// loopback reports whether a host is this machine only. A name could be made to
// mean another.
func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Serve answers on a listener until ctx ends, and then finishes what it has
// begun. Before the first answer it reads what was asked in the last days, so
// that no question waits for that.
func (g *Gateway) Serve(ctx context.Context, listener net.Listener, backends []string) error {
	server := &http.Server{
		ErrorLog:          log.New(g.log, "", 0),
		Handler:           g.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       20 * time.Second,
		WriteTimeout:      readWithin + g.cfg.Answer + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	for _, backend := range backends {
		if err := g.requests.read(ctx, backend); err != nil {
			_ = listener.Close()
			if ctx.Err() != nil {
				return nil // told to stop
			}
			return fmt.Errorf("read the requests of backend %s: %w", backend, err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), readWithin)
	defer cancel()
	err := server.Shutdown(last)
	if serving := <-ended; !errors.Is(serving, http.ErrServerClosed) {
		err = errors.Join(err, serving)
	}
	return err
}
