// Package jetstreamtest gives each test a NATS server of its own.
package jetstreamtest

import (
	"context"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"sluice/jetstream"
)

// Topology is what Conn provisions: two backends with two pools each.
func Topology() jetstream.Topology {
	pools := []string{"default", "db"}
	return jetstream.Topology{Backends: map[string][]string{"test": pools, "other": pools}, Replicas: 1, Store: 256 << 20}
}

// Server starts a server in this process that ends with the test. It listens
// on a free port of the loopback.
func Server(tb testing.TB) *jetstream.Server {
	tb.Helper()
	return ServerAt(tb, tb.TempDir(), "127.0.0.1:0")
}

// ServerAt starts a server on a store and an address, so that a test can stop
// one and start it again.
func ServerAt(tb testing.TB, dir, listen string) *jetstream.Server {
	tb.Helper()
	s, err := jetstream.Serve(jetstream.ServerOptions{Name: "test", StoreDir: dir, Listen: listen, MaxStore: 1 << 30, NoSync: true, Log: zerolog.Nop()})
	if err != nil {
		tb.Fatalf("start a NATS server: %v", err)
	}
	tb.Cleanup(s.Stop)
	return s
}

// Restart stops a server that listens and starts another on its store and
// address. Its clients come back by themselves.
func Restart(tb testing.TB, s *jetstream.Server) *jetstream.Server {
	tb.Helper()
	s.Stop()
	return ServerAt(tb, s.StoreDir(), strings.TrimPrefix(s.URL(), "nats://"))
}

// Connect connects to a server until the test ends.
func Connect(tb testing.TB, s *jetstream.Server) *jetstream.Conn {
	tb.Helper()
	c, err := jetstream.Connect(context.WithoutCancel(tb.Context()), jetstream.Options{URL: s.URL(), Name: tb.Name(), Log: zerolog.Nop()})
	if err != nil {
		tb.Fatalf("connect to the NATS server: %v", err)
	}
	tb.Cleanup(c.Close)
	return c
}

// Conn returns a connection to a server of the test's own, provisioned.
func Conn(tb testing.TB) *jetstream.Conn {
	tb.Helper()
	c := Connect(tb, Server(tb))
	if err := c.Provision(tb.Context(), Topology()); err != nil {
		tb.Fatalf("provision the topology: %v", err)
	}
	return c
}
