package reliability

import (
	"fmt"
	"os"
	"strings"

	"github.com/rs/zerolog"

	"sluice/jetstream"
)

// storeVariable makes this program a NATS server instead of tests: one that can
// be killed. It is the server's store and address, with a space between.
const storeVariable = "SLUICE_TEST_SERVER"

// serveAlone is that server, until it is killed.
func serveAlone(at string) {
	store, listen, _ := strings.Cut(at, " ")
	if _, err := jetstream.Serve(jetstream.ServerOptions{Name: "test", StoreDir: store, Listen: listen, MaxStore: 1 << 30, NoSync: true, Log: zerolog.Nop()}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("server is ready")
	select {}
}

// killable stops the fleet's server, and starts one on its store and address in
// a process of its own.
func (f *fleet) killable() *process {
	self, err := os.Executable()
	if err != nil {
		f.fatalf("%v", err)
	}
	store, listen := f.server.StoreDir(), strings.TrimPrefix(f.server.URL(), "nats://")
	f.server.Stop()
	p := f.add("nats", nil)
	p.path, p.env = self, []string{storeVariable + "=" + store + " " + listen}
	p.start()
	p.awaitLog("server is ready")
	return p
}
