package jetstream_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/sys/unix"
)

// Variables that make this program a NATS server instead of a test.
const (
	serverConfig = "SLUICE_TEST_SERVER_CONFIG" // its configuration file
	serverDisk   = "SLUICE_TEST_SERVER_DISK"   // folder that is a small disk of its own, if set
)

const diskSize = "size=32m"

// serveAlone is a NATS server in a process of its own. It does what the lines
// of its input say, and answers each with one.
func serveAlone(config string) {
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	disk := os.Getenv(serverDisk)
	if disk != "" { // it ends with this process: the mount is in a namespace of its own
		fail(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
		fail(unix.Mount("tmpfs", disk, "tmpfs", 0, diskSize))
	}
	start := func() *server.Server {
		opts, err := server.ProcessConfigFile(config)
		fail(err)
		opts.NoLog, opts.NoSigs = true, true
		s, err := server.NewServer(opts)
		fail(err)
		s.Start()
		if !s.ReadyForConnections(time.Minute) {
			fail(errors.New("server is not ready"))
		}
		return s
	}
	s := start()
	fmt.Println("ready")
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch filler := filepath.Join(disk, "filler"); in.Text() {
		case "fill":
			f, err := os.Create(filler)
			fail(err)
			if _, err = io.Copy(f, zeroes{}); !errors.Is(err, unix.ENOSPC) {
				fail(fmt.Errorf("the disk is not full: %w", err))
			}
			fail(f.Close())
		case "free":
			fail(os.Remove(filler))
		case "restart":
			s.Shutdown()
			s.WaitForShutdown()
			s = start()
		}
		fmt.Println("done")
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

// A natsProcess is a server that can be killed.
type natsProcess struct {
	t     *testing.T
	env   []string
	disk  bool
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Scanner
}

// start starts it, again if it was killed; it does not wait until it is ready.
func (p *natsProcess) start() {
	p.t.Helper()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.Stderr = os.Stderr
	if p.disk {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if uid := os.Geteuid(); uid != 0 { // whoever is not root may mount in a user namespace of its own
			p.cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			p.cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
			p.cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
		}
	}
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		p.stdin, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		p.t.Fatalf("start a server: %v", err)
	}
	p.out = bufio.NewScanner(stdout)
}

// await waits for the answer to what it was told last.
func (p *natsProcess) await(want string) {
	p.t.Helper()
	if !p.out.Scan() || p.out.Text() != want {
		p.t.Fatalf("server says %q, %v; want %q", p.out.Text(), p.out.Err(), want)
	}
}

func (p *natsProcess) tell(what string) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.stdin, what); err != nil {
		p.t.Fatal(err)
	}
	p.await("done")
}

// kill ends it as a power cut of the process would: with SIGKILL.
func (p *natsProcess) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it says that it was killed
}

// freePort returns an address of the loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
