package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// settings are those of every git that we start, whatever a mirror's own
// configuration says.
var settings = [][2]string{
	{"core.hooksPath", "/dev/null"},
	{"core.askPass", ""},
	{"core.fsmonitor", "false"},
	{"core.fsync", "all"}, // a complete fetch stays complete when the power goes
	{"credential.helper", ""},
	{"fetch.recurseSubmodules", "false"},
	{"fetch.unpackLimit", "1"}, // one pack, renamed into place, instead of many files
	{"gc.auto", "0"},
	{"maintenance.auto", "false"},
	{"protocol.version", "2"},         // servers then give any commit that they have
	{"http.followRedirects", "false"}, // a redirect leads to where the rules did not look
	{"http.lowSpeedLimit", "1"},       // bytes a second: a server that is thinking sends few
	{"http.lowSpeedTime", "120"},
}

const (
	maxStdout = 1 << 20
	maxStderr = 8 << 10
	killWait  = 5 * time.Second // for the pipes of a killed git
)

// A call is one run of git.
type call struct {
	args     []string
	mirror   string   // GIT_DIR; empty for none
	protocol string   // the one that git may use; empty for none
	url      string   // gets the token, if there is one
	lock     *os.File // inherited, see locked
	stdin    io.Reader
}

// A gitError is git's own failure. Text is what it said, redacted.
type gitError struct {
	command string
	code    int
	text    string
}

func (e *gitError) Error() string {
	return fmt.Sprintf("git %s: exit code %d: %s", e.command, e.code, strings.Join(strings.Fields(strings.ToValidUTF8(e.text, "?")), " "))
}

// A process is a git under way. Its output must be read before finish.
type process struct {
	cmd     *exec.Cmd
	command string
	stderr  bounded
	secrets []string
	ctx     context.Context
	cancel  context.CancelFunc
}

var errSlow = errors.New("git took too long")

// start prepares a git that is killed, with all that it started, when ctx ends
// or its time is over. The caller sets its output, starts and finishes it.
func (m *Mirrors) start(ctx context.Context, c call) (*process, error) {
	dir, err := m.dir()
	if err != nil {
		return nil, err
	}
	binary := m.Binary
	if binary == "" {
		binary = "git"
	}
	if binary, err = exec.LookPath(binary); err != nil {
		return nil, fmt.Errorf("find git: %w", err)
	}
	env, secrets, err := m.environment(c, dir, binary)
	if err != nil {
		return nil, err
	}
	timeout := m.Timeout
	if timeout <= 0 {
		timeout = 10 * time.Minute
	}
	p := &process{command: c.args[0], secrets: secrets, stderr: bounded{limit: maxStderr}}
	p.ctx, p.cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%w: the limit is %v", errSlow, timeout))
	p.cmd = exec.CommandContext(p.ctx, binary, c.args...)
	p.cmd.Dir = home(dir)
	p.cmd.Env = env
	p.cmd.Stdin = c.stdin
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	p.cmd.WaitDelay = killWait
	if c.lock != nil {
		p.cmd.ExtraFiles = []*os.File{c.lock}
	}
	return p, nil
}

// begin starts git; it is not finished if that fails.
func (p *process) begin() error {
	err := p.cmd.Start()
	if err == nil {
		return nil
	}
	if cause := context.Cause(p.ctx); cause != nil {
		err = cause
	}
	p.cancel()
	return fmt.Errorf("git %s: %w", p.command, err)
}

// finish waits for git and explains its end. Failed is what went wrong on our
// side meanwhile: it makes git stop, and is the error then, unless git had
// ended early by itself and has the better reason.
func (p *process) finish(failed error) error {
	defer p.cancel()
	early := errors.Is(failed, io.EOF) || errors.Is(failed, io.ErrUnexpectedEOF)
	if cause := context.Cause(p.ctx); cause != nil {
		failed = fmt.Errorf("git %s: %w", p.command, cause)
	} else if failed != nil && !early {
		p.cancel()
	}
	err := p.cmd.Wait()
	exit := (*exec.ExitError)(nil)
	switch {
	case failed != nil && !early:
		return failed
	case err == nil:
		return failed
	case context.Cause(p.ctx) != nil:
		return fmt.Errorf("git %s: %w", p.command, context.Cause(p.ctx))
	case errors.As(err, &exit):
		return &gitError{command: p.command, code: exit.ExitCode(), text: p.redact(p.stderr.buf.String())}
	}
	return fmt.Errorf("git %s: %w", p.command, err)
}

func (p *process) redact(s string) string {
	for _, secret := range p.secrets {
		s = strings.ReplaceAll(s, secret, redacted)
	}
	return s
}

// run returns what git printed.
func (m *Mirrors) run(ctx context.Context, c call) ([]byte, error) {
	p, err := m.start(ctx, c)
	if err != nil {
		return nil, err
	}
	stdout := bounded{limit: maxStdout}
	p.cmd.Stdout = &stdout
	if err := p.begin(); err != nil {
		return nil, err
	}
	if err := p.finish(nil); err != nil {
		return nil, err
	}
	if stdout.dropped {
		return nil, fmt.Errorf("git %s: it printed more than %d bytes", p.command, maxStdout)
	}
	return stdout.buf.Bytes(), nil
}

// environment is all that git gets to know of this process.
func (m *Mirrors) environment(c call, dir, binary string) (env, secrets []string, err error) {
	global, protocol := os.DevNull, c.protocol
	if protocol == "" {
		protocol = "none"
	}
	if protocol == "file" {
		// The serving side of a local repository refuses those of other users
		// unless a file, not a variable, says otherwise.
		global = localConfig(dir)
	}
	env = append(append([]string{}, m.Env...),
		"PATH="+filepath.Dir(binary)+":/usr/local/bin:/usr/bin:/bin",
		"HOME="+home(dir), "XDG_CONFIG_HOME="+home(dir), "LC_ALL=C",
		"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+global, "GIT_ATTR_NOSYSTEM=1",
		"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL="+protocol, "GIT_PROTOCOL_FROM_USER=0",
		"GIT_NO_REPLACE_OBJECTS=1", "GIT_NO_LAZY_FETCH=1", "GIT_LITERAL_PATHSPECS=1",
		"GIT_CEILING_DIRECTORIES="+dir,
	)
	if c.mirror != "" {
		env = append(env, "GIT_DIR="+c.mirror)
	}
	values := settings
	if c.url != "" {
		key, value, hidden, err := m.Rules.header(c.url)
		if err != nil {
			return nil, nil, err
		}
		if key != "" {
			values, secrets = append(values[:len(values):len(values)], [2]string{key, value}), hidden
		}
	}
	for i, kv := range values {
		n := strconv.Itoa(i)
		env = append(env, "GIT_CONFIG_KEY_"+n+"="+kv[0], "GIT_CONFIG_VALUE_"+n+"="+kv[1])
	}
	return append(env, "GIT_CONFIG_COUNT="+strconv.Itoa(len(values))), secrets, nil
}

// bounded keeps the first bytes written to it.
type bounded struct {
	buf     bytes.Buffer
	limit   int
	dropped bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := b.limit - b.buf.Len()
	if len(p) > room {
		b.dropped = true
	}
	b.buf.Write(p[:min(room, len(p))])
	return len(p), nil
}

// Check reports what is missing on this machine.
func (m *Mirrors) Check(ctx context.Context) error {
	dir, err := m.dir()
	if err != nil {
		return err
	}
	if err := prepareDir(dir); err != nil {
		return err
	}
	out, err := m.run(ctx, call{args: []string{"version"}})
	if err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out), "git version %d.%d", &major, &minor); err != nil {
		return fmt.Errorf("git version: it printed %.100q", out)
	}
	if major < 2 || major == 2 && minor < 32 {
		return fmt.Errorf("git is %d.%d; this needs 2.32 or newer", major, minor)
	}
	return nil
}
