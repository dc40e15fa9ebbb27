package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/worker"
)

// ended reports whether a process has ended (POLLIN), or was taken note of by
// its parent too (POLLHUP).
func ended(proc *os.File, what int16) bool {
	raw, err := proc.SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Control(func(fd uintptr) { over = polled(fd, what) })
	return err != nil || over
}

func polled(fd uintptr, what int16) bool {
	p := []unix.PollFd{{Fd: int32(fd), Events: what}} //nolint:gosec // a descriptor
	n, err := unix.Poll(p, 0)
	return err == nil && n > 0 && p[0].Revents&what != 0
}

// awaitProcess returns when a process has ended, or ctx.
func awaitProcess(ctx context.Context, proc *os.File, what int16) error {
	raw, err := proc.SyscallConn()
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = proc.SetReadDeadline(time.Unix(1, 0)) })()
	for {
		if err := proc.SetReadDeadline(time.Time{}); err != nil {
			return err
		}
		if ctx.Err() != nil { // before or after the deadline was set: one of us sees it
			return context.Cause(ctx)
		}
		err := raw.Read(func(fd uintptr) bool { return polled(fd, what) })
		if !errors.Is(err, os.ErrDeadlineExceeded) { // an earlier call's may come late
			return err
		}
	}
}

// reaped is how long the engine may take to take note of a process's end.
const reaped = 200 * time.Millisecond

// A sight is what can be told of a container's end without the engine.
type sight struct {
	exit  worker.Exit
	known bool // what exit says; else the engine is asked
	toll  toll
}

// see waits for the end of a container by its first process, which ends last:
// some twenty milliseconds before the engine says so. The kernel knows the exit
// code. Where it does not say, or where the code may be the work of somebody
// else (a signal, the want of memory, an engine that stops), the exit is not
// known: then the engine is asked.
func (s *slot) see(ctx context.Context, t *taken) (seen sight, err error) {
	if err := awaitProcess(ctx, s.proc, unix.POLLIN); err != nil {
		return seen, err
	}
	finished := time.Now().UTC()
	seen.toll = readToll(s.oom) // first: the engine takes the counter away
	s.endLogs(t.Mark)
	if !seen.toll.known || seen.toll.killed {
		return seen, nil
	}
	short, cancel := context.WithTimeout(ctx, reaped)
	defer cancel()
	if err := awaitProcess(short, s.proc, unix.POLLHUP); err != nil {
		return seen, context.Cause(ctx)
	}
	if code, ok := exitCode(s.proc); ok && code < 128 {
		seen.exit, seen.known = worker.Exit{Code: code, Started: t.At, Finished: finished}, true
	}
	return seen, nil
}

// exitCode asks the kernel for a process's exit code (Linux 6.15); not ok where
// it does not know, or a signal ended it.
func exitCode(proc *os.File) (code int, ok bool) {
	raw, err := proc.SyscallConn()
	if err != nil {
		return 0, false
	}
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	controlErr := raw.Control(func(fd uintptr) { err = unix.IoctlPidfdInfo(int(fd), &info) })
	if errors.Join(controlErr, err) != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	status := unix.WaitStatus(info.Exit_code) //nolint:gosec // bits
	return status.ExitStatus(), status.Exited()
}

// endLogs writes the mark behind what the container wrote, so that its log is
// known to be whole before the engine closes it. Where there is no room for it,
// that is waited for.
func (s *slot) endLogs(mark string) {
	for _, out := range s.outs {
		raw, err := out.SyscallConn()
		if err != nil {
			continue
		}
		_ = raw.Write(func(fd uintptr) bool {
			_, _ = unix.Write(int(fd), []byte(mark)) // all or nothing: it is short
			return true
		})
		_ = out.Close() // or the engine would wait for more
	}
}

// openOOM opens the counter of what the kernel killed in a container for want
// of memory; nil where there is none.
func openOOM(groups []byte) *os.File {
	for line := range strings.Lines(string(groups)) {
		part := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(part) != 3 {
			continue
		}
		path := ""
		switch {
		case part[1] == "memory":
			path = filepath.Join("/sys/fs/cgroup/memory", part[2], "memory.oom_control")
		case part[0] == "0" && part[1] == "":
			path = filepath.Join("/sys/fs/cgroup", part[2], "memory.events")
		default:
			continue
		}
		if f, err := os.Open(path); err == nil {
			return f
		}
	}
	return nil
}

// readToll reads that counter. The kernel counts before it kills.
func readToll(f *os.File) toll {
	if f == nil {
		return toll{}
	}
	buf := make([]byte, 4096)
	n, _ := f.ReadAt(buf, 0)
	for line := range bytes.Lines(buf[:n]) {
		if rest, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			killed, err := strconv.Atoi(string(bytes.TrimSpace(rest)))
			return toll{killed: killed > 0, known: err == nil}
		}
	}
	return toll{}
}

// keepExit writes down how a container ended, so that a later process says the
// same.
func (b *box) keepExit(exit worker.Exit) {
	if data, err := json.Marshal(exit); err == nil {
		_ = os.WriteFile(filepath.Join(b.dir, "exit.json"), data, 0o600) // lost: the engine's times are said
	}
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}
