package jetstream_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
)

// TestServeRefuses: each says what is wrong, and leaves the store free for the
// next try.
func TestServeRefuses(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	for _, tc := range []struct{ name, listen, says string }{
		{"NoPort", "127.0.0.1", "missing port"},
		{"PortName", "127.0.0.1:nats", "not a number"},
		{"PortTail", "127.0.0.1:4222x", "not a number"},
		{"PortRange", "127.0.0.1:65536", "not a number"},
		{"PortTaken", taken.Addr().String(), "in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			_, err := jetstream.Serve(jetstream.ServerOptions{StoreDir: dir, Listen: tc.listen, MaxStore: 1 << 30, Log: zerolog.Nop()})
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Serve on %s: %v, want %q", tc.listen, err, tc.says)
			}
			jetstreamtest.ServerAt(t, dir, "127.0.0.1:0")
		})
	}
	t.Run("StoreIsAFile", func(t *testing.T) {
		t.Parallel()
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := jetstream.Serve(jetstream.ServerOptions{StoreDir: file}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("Serve in a file: %v, want its name", err)
		}
	})
}

// TestOneServerAStore: two on one store would destroy it.
func TestOneServerAStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := jetstreamtest.ServerAt(t, dir, "")
	if _, err := jetstream.Serve(jetstream.ServerOptions{StoreDir: dir, MaxStore: 1 << 30}); err == nil || !strings.Contains(err.Error(), "in use by another sluice process") {
		t.Fatalf("a second server on a store: %v, want that it is in use", err)
	}
	first.Stop()
	first.Stop() // again does no harm
	jetstreamtest.ServerAt(t, dir, "")
}

// TestInProcess: a server that listens nowhere serves its own process, and
// keeps what it was given.
func TestInProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lines := newLogLines()
	serve := func() *jetstream.Server {
		s, err := jetstream.Serve(jetstream.ServerOptions{Name: "own", StoreDir: dir, MaxStore: 1 << 30, Log: zerolog.New(lines)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Stop)
		return s
	}
	s := serve()
	c := connect(t, jetstream.Options{Server: s, Name: "in process", Log: zerolog.Nop()})
	if err := c.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	publish(t, c, files(1))
	c.Close()
	s.Stop()
	c = connect(t, jetstream.Options{Server: serve(), Name: "in process", Log: zerolog.Nop()})
	if n, err := c.Count(t.Context(), jetstream.Files, "sluice.files.*.*.*"); err != nil || n != 1 {
		t.Errorf("after a restart the stream holds %d messages, %v; want 1", n, err)
	}
}
