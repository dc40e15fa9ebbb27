package jetstream

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/fault"
)

// cuttable has fault points lose a connection. In a build without them it adds
// nothing.
func cuttable(o Options) []nats.Option {
	if !fault.Built {
		return nil
	}
	d := &cutDialer{open: map[net.Conn]bool{}}
	fault.OnCut(d.cut)
	opts := []nats.Option{nats.SetCustomDialer(d)}
	if o.Server != nil {
		d.inside = o.Server
		opts = append(opts, nats.InProcessServer(d))
	}
	return opts
}

// A cutDialer makes connections that can be cut.
type cutDialer struct {
	inside nats.InProcessConnProvider

	mu    sync.Mutex
	until time.Time // none is made before
	open  map[net.Conn]bool
}

// cut closes all connections, and makes none for a time.
func (d *cutDialer) cut(lasts time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.until = time.Now().Add(lasts)
	for c := range d.open {
		_ = c.Close()
	}
	clear(d.open)
}

// Dial connects to a server's address.
func (d *cutDialer) Dial(network, address string) (net.Conn, error) {
	dialer := net.Dialer{Timeout: callTimeout}
	return d.keep(network, func() (net.Conn, error) { return dialer.Dial(network, address) })
}

// InProcessConn connects to a server of this process.
func (d *cutDialer) InProcessConn() (net.Conn, error) {
	return d.keep("inside", d.inside.InProcessConn)
}

func (d *cutDialer) keep(network string, dial func() (net.Conn, error)) (net.Conn, error) {
	d.mu.Lock()
	off := time.Now().Before(d.until)
	d.mu.Unlock()
	if off {
		return nil, &net.OpError{Op: "dial", Net: network, Err: errors.New("cut off at a fault point")}
	}
	c, err := dial()
	if err == nil {
		d.mu.Lock()
		d.open[c] = true
		d.mu.Unlock()
	}
	return c, err
}
