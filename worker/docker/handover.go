package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/docker/waiter"
)

// A taken is what a waiting container became: what its labels and its
// environment would say of one that was made for its attempt. Values that may
// be secret are not in it.
type taken struct {
	Attempt   worker.Attempt `json:"attempt"`
	Workspace string         `json:"workspace"`
	Action    string         `json:"action"`
	Args      []string       `json:"args"`
	Env       []string       `json:"env"` // redacted
	At        time.Time      `json:"at"`  // when its command began
	Mark      string         `json:"mark"`
}

// become makes a waiting container the attempt's. Only the last step, the
// handing over, can start anything of the action; before it the container can be
// thrown away, whether or not the engine hears of that.
func (s *slot) become(spec worker.Spec, facts imageFacts) (*box, error) {
	args, env := facts.command(spec, s.record.Config.Hostname)
	command, err := waiter.Command{Dir: "/workspace", Args: args, Env: env}.Encode()
	if err != nil {
		return nil, err
	}
	t := &taken{Attempt: spec.Attempt, Workspace: spec.Workspace, Action: spec.Action, Args: args, Env: redact(env), At: time.Now().UTC(), Mark: newMark()}
	if err := s.prepare(t); err != nil {
		return nil, err
	}
	if err := inject(s.ns, spec.Dir); err != nil {
		return nil, err
	}
	if err := s.feed.SetWriteDeadline(time.Now().Add(s.r.cfg.Timeout)); err != nil {
		return nil, fmt.Errorf("hand a command to a container: %w", err)
	}
	if _, err := s.feed.Write(command); err != nil {
		return nil, fmt.Errorf("hand a command to a container: %w", err) // a part of it is none: the program that waits ends
	}
	s.r.handed(spec.Attempt)
	// A FIFO that is gone says so to a later process; one that is still there, that
	// nothing was run, or nobody knows.
	_ = os.Remove(filepath.Join(s.dir, waitDir, filepath.Base(fifoArg)))
	_ = s.feed.Close()
	_ = s.ns.Close() // it would keep the container's /tmp, and the memory that it takes
	b := &box{r: s.r, id: s.id, attempt: spec.Attempt, dir: s.dir, taken: t, slot: s, one: make(chan struct{}, 1)}
	b.nameLater()
	return b, nil
}

// prepare writes down what the container becomes: all of it or nothing, as a
// later process believes it without more once the FIFO is gone.
func (s *slot) prepare(t *taken) error {
	data, err := json.Marshal(t)
	if err == nil {
		err = writeWhole(filepath.Join(s.dir, "taken.json"), data)
	}
	if err != nil {
		return fmt.Errorf("write down what a container becomes: %w", err)
	}
	return nil
}

// inject mounts a folder over /workspace in a container that runs, and looks
// there whether it is the one.
func inject(ns *os.File, dir string) error {
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("open workspace %s: %w", dir, err)
	}
	tree := os.NewFile(uintptr(fd), dir)
	defer tree.Close()
	// Mounts that are made beneath it later stay here.
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		return fmt.Errorf("keep workspace %s apart: %w", dir, err)
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // for good: a thread that was in a container is thrown away
		done <- mountThere(ns, fd)
	}()
	err = <-done
	runtime.KeepAlive(tree)
	if err != nil {
		return fmt.Errorf("mount workspace %s into a container: %w", dir, err)
	}
	return nil
}

func mountThere(ns *os.File, tree int) error {
	var want, got unix.Stat_t
	if err := unix.Fstat(tree, &want); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.MoveMount(tree, "", unix.AT_FDCWD, "/workspace", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return err
	}
	if err := unix.Lstat("/workspace", &got); err != nil {
		return err
	}
	if got.Dev != want.Dev || got.Ino != want.Ino {
		return errors.New("another folder is there")
	}
	return nil
}

// command is what the engine would run, and with which environment, had the
// container been made for it.
func (f imageFacts) command(spec worker.Spec, host string) (args, env []string) {
	args = append(args, f.entrypoint...)
	if len(spec.Args) > 0 {
		args = append(args, spec.Args...)
	} else {
		args = append(args, f.cmd...)
	}
	at := map[string]int{}
	set := func(v string) {
		name, _, _ := strings.Cut(v, "=")
		if i, there := at[name]; there {
			env[i] = v
			return
		}
		at[name] = len(env)
		env = append(env, v)
	}
	set("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	set("HOSTNAME=" + host)
	for _, v := range f.env {
		set(v)
	}
	for _, v := range spec.Env {
		set(v.Name + "=" + v.Value)
	}
	return args, env
}

// noProgram is what Start says of an action that names no program where its
// image has none either.
func noProgram(image string) error {
	return messages.Failf(messages.JobError, "image %s has no program of its own, and the action names none; add one to its run line", messages.Quote(image))
}
