package waiter_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"sluice/worker/docker/waiter"
)

// run starts the program, as a container would, and feeds it.
func run(t *testing.T, fed ...[]byte) (code int, stdout, stderr string) {
	t.Helper()
	program, err := waiter.Program()
	if err != nil {
		if runtime.GOARCH == "amd64" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	dir := t.TempDir()
	path, fifo := filepath.Join(dir, "wait"), filepath.Join(dir, "fifo")
	if err := errors.Join(os.WriteFile(path, program, 0o755), unix.Mkfifo(fifo, 0o600)); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, fifo)
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, []string{"OF_THE_PROGRAM=1"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	in, err := os.OpenFile(fifo, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range fed {
		if _, err := in.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	err = cmd.Wait()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func encode(t *testing.T, c waiter.Command) []byte {
	t.Helper()
	data, err := c.Encode()
	if err != nil {
		t.Fatalf("Encode: %v", err)
	}
	return data
}

func TestBecomesTheCommand(t *testing.T) {
	t.Parallel()
	c := waiter.Command{
		Dir: "/usr", Args: []string{"sh", "-c", `pwd; printf '<%s>' "$0" "$@"; env | sort; ls -l /proc/self/fd | grep -c fifo`, "", "a b", "$(id)\n"},
		Env: []string{"PATH=/nowhere:/etc/passwd:/bin:/usr/bin", "SECRET=x=y z"},
	}
	data := encode(t, c)
	code, stdout, stderr := run(t, data[:3], data[3:100], data[100:])
	want := "/usr\n<><a b><$(id)\n>PATH=/nowhere:/etc/passwd:/bin:/usr/bin\nPWD=/usr\nSECRET=x=y z\n"
	if !strings.HasPrefix(stdout, want[:len(want)-len("SECRET=x=y z\n")]) || !strings.Contains(stdout, "SECRET=x=y z\n") || strings.Contains(stdout, "OF_THE_PROGRAM") || !strings.HasSuffix(stdout, "0\n") {
		t.Errorf("exit %d, stdout %q, stderr %q, want %q and no descriptor of the FIFO", code, stdout, stderr, want)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script, plain := filepath.Join(dir, "script"), filepath.Join(dir, "plain")
	if err := errors.Join(os.WriteFile(script, []byte("echo \"$0 $1\"; exit 4\n"), 0o755), os.WriteFile(plain, nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name         string
		command      waiter.Command
		code         int
		stdout, says string
	}{
		{"a code of its own", waiter.Command{Dir: "/", Args: []string{"/bin/sh", "-c", "exit 7"}}, 7, "", ""},
		{"no such program", waiter.Command{Dir: "/", Args: []string{"no-such-program"}, Env: []string{"PATH=/bin"}}, 127, "", `"no-such-program"`},
		{"no such path", waiter.Command{Dir: "/", Args: []string{"/no/such"}}, 127, "", `"/no/such"`},
		{"an empty name", waiter.Command{Dir: "/", Args: []string{""}}, 127, "", `""`},
		{"not executable", waiter.Command{Dir: "/", Args: []string{plain}}, 126, "", plain},
		{"a folder", waiter.Command{Dir: "/", Args: []string{"/etc"}}, 126, "", "/etc"},
		{"no such folder", waiter.Command{Dir: "/no/such", Args: []string{"/bin/true"}}, 126, "", "/bin/true"},
		{"a script without a first line", waiter.Command{Dir: "/", Args: []string{script, "one"}}, 4, script + " one\n", ""},
		{"without a PATH", waiter.Command{Dir: "/", Args: []string{"true"}}, 0, "", ""},
		{"a long argument", waiter.Command{Dir: "/", Args: []string{"/bin/sh", "-c", "exit $((${#0}/1000))", strings.Repeat("x", 100_000)}}, 100, "", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := run(t, encode(t, tc.command))
			if code != tc.code || stdout != tc.stdout || !strings.Contains(stderr, tc.says) || tc.says == "" && stderr != "" {
				t.Errorf("exit %d, stdout %q, stderr %q, want %d, %q and %q", code, stdout, stderr, tc.code, tc.stdout, tc.says)
			}
		})
	}
}

// TestUnfed: a worker that dies while it hands a command over has run nothing.
func TestUnfed(t *testing.T) {
	t.Parallel()
	data := encode(t, waiter.Command{Dir: "/", Args: []string{"/bin/echo", "ran"}})
	for _, n := range []int{0, 1, 8, 63, 64, len(data) - 1} {
		if code, stdout, stderr := run(t, data[:n]); code != waiter.Unfed || stdout+stderr != "" {
			t.Errorf("%d of %d bytes: exit %d, %q, want %d and nothing said", n, len(data), code, stdout+stderr, waiter.Unfed)
		}
	}
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 100_000)
	if _, err := (waiter.Command{Dir: "/", Args: []string{"a", long, long, long, long, long, long, long, long, long, long, long}}).Encode(); !errors.Is(err, waiter.ErrTooLong) {
		t.Errorf("a command of more than a megabyte: %v, want ErrTooLong", err)
	}
	for _, c := range []waiter.Command{{Dir: "/"}, {Dir: "/", Args: []string{"a\x00b"}}, {Dir: "/", Args: []string{"a"}, Env: []string{"A=\x00"}}} {
		if _, err := c.Encode(); err == nil {
			t.Errorf("Encode of %q succeeded", c)
		}
	}
}
