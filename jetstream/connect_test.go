package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// configuredServer starts a server with a configuration file, as operators
// write it, on a free port.
func configuredServer(t testing.TB, config string) (url string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	config = fmt.Sprintf("listen: 127.0.0.1:-1\njetstream { store_dir: %q }\n", t.TempDir()) + config
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatalf("configuration: %v", err)
	}
	return startServer(t, opts).ClientURL()
}

// startServer starts a server, until the test ends.
func startServer(t testing.TB, opts *server.Options) *server.Server {
	t.Helper()
	opts.NoLog, opts.NoSigs = true, true
	s, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(time.Minute) {
		t.Fatal("server is not ready")
	}
	return s
}

func optionsFor(url, user, password string) jetstream.Options {
	return jetstream.Options{URL: url, User: user, Password: password, Log: zerolog.Nop()}
}

// TestConnectRefuses: what is wrong on our side is said at once, without what
// must not be shown.
func TestConnectRefuses(t *testing.T) {
	t.Parallel()
	url := configuredServer(t, `authorization { user: sluice, password: right }`)
	small := configuredServer(t, `max_payload: 512KB`)
	missing := filepath.Join(t.TempDir(), "missing")
	host := strings.TrimPrefix(url, "nats://")
	for _, tc := range []struct {
		name    string
		options jetstream.Options
		says    string
		is      error
	}{
		{"URL", jetstream.Options{URL: "nats://[bad"}, "missing ']'", nil},
		{"CredentialsFile", jetstream.Options{URL: url, Creds: missing}, missing, fs.ErrNotExist},
		{"SeedFile", jetstream.Options{URL: url, NKey: missing}, missing, nil},
		{"CertificateFile", jetstream.Options{URL: url, CA: missing}, missing, nil},
		{"TwoWays", jetstream.Options{URL: url, User: "a", Token: "b"}, "give one of", nil},
		{"Password", jetstream.Options{URL: url, User: "sluice", Password: "wrong"}, "Authorization", nats.ErrAuthorization},
		{"PasswordInURL", jetstream.Options{URL: "nats://sluice:s3cret@" + host + ",nats://other:s3cret@" + host}, host, nats.ErrAuthorization},
		{"MaxPayload", jetstream.Options{URL: small}, "max_payload", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := jetstream.Connect(t.Context(), tc.options)
			if err == nil {
				c.Close()
				t.Fatal("Connect went through")
			}
			if !strings.Contains(err.Error(), tc.says) || tc.is != nil && !errors.Is(err, tc.is) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("Connect: %v, want that it says %q, and no password", err, tc.says)
			}
		})
	}
	connect(t, optionsFor(url, "sluice", "right"))
}

// TestConnectWaits: a service that starts before its server waits for it; one
// that is told to stop does not.
func TestConnectWaits(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	lines := newLogLines()
	connected := make(chan error, 1)
	go func() {
		c, err := jetstream.Connect(context.WithoutCancel(t.Context()), jetstream.Options{URL: "nats://" + address, Log: zerolog.New(lines)})
		if err == nil {
			c.Close()
		}
		connected <- err
	}()
	lines.await(t, "waiting for it")
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := jetstream.Connect(ctx, jetstream.Options{URL: "nats://" + address}); !errors.Is(err, nats.ErrNoServers) {
		t.Errorf("Connect with an ended context: %v, want ErrNoServers", err)
	}
	jetstreamtest.ServerAt(t, t.TempDir(), address)
	if err := <-connected; err != nil {
		t.Errorf("Connect: %v, want that it waits for the server", err)
	}
}

// TestDeniedPublish: the server tells nobody but the connection what it denied.
func TestDeniedPublish(t *testing.T) {
	t.Parallel()
	url := configuredServer(t, `authorization { users: [
		{user: admin, password: a},
		{user: worker, password: w, permissions: {publish: "$JS.API.>", subscribe: "_INBOX.worker.>"}}] }`)
	admin := connect(t, optionsFor(url, "admin", "a"))
	if err := admin.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	lines := newLogLines()
	o := optionsFor(url, "worker", "w")
	o.Log, o.InboxPrefix = zerolog.New(lines), "_INBOX.worker"
	worker := connect(t, o)
	if n, err := worker.Count(t.Context(), jetstream.Files, ""); err != nil || n != 0 {
		t.Fatalf("Count with an inbox of its own = %d, %v", n, err)
	}
	if err := worker.Send(files(1).Subject(), files(1)); err != nil {
		t.Fatal(err)
	}
	lines.await(t, files(1).Subject())
}

// TestReconnected: whoever waits hears of a reconnect, and no more once told to
// stop.
func TestReconnected(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	again, stop := f.Reconnected()
	deaf, stopDeaf := f.Reconnected()
	stopDeaf()
	f.restart(t)
	<-again
	stop()
	f.restart(t)
	select {
	case <-again:
		t.Error("a stopped listener hears a second reconnect")
	case <-deaf:
		t.Error("a stopped listener hears a reconnect")
	default:
	}
	if !f.Connected() {
		t.Error("Connected = false after a reconnect")
	}
	f.lines.await(t, "connection to NATS lost")
	f.lines.await(t, "connection to NATS is back")
	f.Close()
	if err := f.Publish(t.Context(), files(1).Subject(), files(1), ""); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Publish on a closed connection: %v, want ErrConnectionClosed", err)
	}
	if _, err := f.filesQueue().Next(t.Context()); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Next on a closed connection: %v, want ErrConnectionClosed", err)
	}
	if err := f.LeasesRegister().Watch(t.Context(), "", func(messages.Entry[messages.Lease]) {}); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("Watch on a closed connection: %v, want ErrConnectionClosed", err)
	}
}
