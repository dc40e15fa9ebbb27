package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/messages"
	"sluice/worker"
	"sluice/worker/docker"
)

// cleanTime bounds what is taken away after an interrupt.
const cleanTime = 2 * time.Minute

// An engine is the Docker Engine with the one image that every container here
// is made of.
type engine struct {
	*docker.Runtime
	prefix string // of the image's name
	ref    string
	root   string // for the folders of bare containers
}

const toolImage = "tools:v1"

// useEngine makes the image, and bare containers possible.
func (b *Bench) useEngine(ctx context.Context) (*engine, error) {
	if b.engine != nil {
		return b.engine, nil
	}
	dir := filepath.Join(b.scratch, "bare")
	cfg := docker.DefaultConfig("bench", dir)
	cfg.Pull = false
	runtime, err := docker.New(cfg)
	if err != nil {
		return nil, err
	}
	b.onClose(runtime.Close)
	if err := runtime.Check(ctx); err != nil {
		return nil, err
	}
	if b.report.Machine.Engine, b.report.Machine.Storage, err = runtime.Storage(ctx); err != nil {
		return nil, err
	}
	e := &engine{Runtime: runtime, prefix: filepath.Base(b.scratch) + "/", root: dir}
	e.prefix = strings.ToLower(e.prefix)
	e.ref = e.prefix + toolImage
	b.say("making an image")
	if err := e.provide(ctx, b.Image); err != nil {
		return nil, err
	}
	b.onClose(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), cleanTime)
		defer cancel()
		return errors.Join(runtime.Clear(ctx), runtime.Drop(ctx, e.ref))
	})
	b.engine = e
	return e, nil
}

// provide names an image of this engine ours, or makes one of a static busybox.
func (e *engine) provide(ctx context.Context, image string) error {
	if image != "" {
		if err := e.Tag(ctx, image, e.ref); err != nil {
			return fmt.Errorf("%w\n--image names one that is on this machine and has /bin/sh, such as busybox:1.36", err)
		}
		return nil
	}
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"} {
		if !static(path) {
			continue
		}
		archive, err := busyboxRoot(path)
		if err != nil {
			return err
		}
		return e.Import(ctx, e.ref, bytes.NewReader(archive), "ENV PATH=/bin")
	}
	return errors.New("there is no static busybox on this machine to make an image of: install one (Debian: apt-get install busybox-static), or name an image that has /bin/sh with --image")
}

// static reports whether a program needs nothing around it.
func static(path string) bool {
	f, err := elf.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false
		}
	}
	return true
}

// busyboxRoot is an image's root folder as a tar archive.
func busyboxRoot(path string) ([]byte, error) {
	program, err := os.ReadFile(path) //nolint:gosec // one of three fixed paths
	if err != nil {
		return nil, fmt.Errorf("read busybox: %w", err)
	}
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	var errs []error
	put := func(h tar.Header, data []byte) {
		h.Size = int64(len(data))
		errs = append(errs, w.WriteHeader(&h))
		_, err := w.Write(data)
		errs = append(errs, err)
	}
	for _, dir := range []string{"bin", "etc", "tmp", "workspace"} {
		put(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, nil)
	}
	put(tar.Header{Typeflag: tar.TypeReg, Name: "bin/busybox", Mode: 0o755}, program)
	for _, applet := range []string{"sh", "true", "dd", "mkdir", "awk", "sleep"} {
		put(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + applet, Linkname: "busybox"}, nil)
	}
	errs = append(errs, w.Close())
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("pack the image: %w", err)
	}
	return archive.Bytes(), nil
}

// noop is a bare no-op container, as small as the engine makes one.
func (e *engine) noop(ctx context.Context) error {
	return e.Bare(ctx, e.ref, []string{"/bin/true"}, nil)
}

// noopLikeOurs is a bare no-op container with the settings of an action's.
func (e *engine) noopLikeOurs(ctx context.Context) error {
	dir, err := os.MkdirTemp(e.root, "workspace-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return e.Bare(ctx, e.ref, []string{"/bin/true"}, e.spec(dir))
}

// spec has the settings that `sluice up` gives an action by default.
func (e *engine) spec(dir string) *worker.Spec {
	cfg := worker.DefaultConfig()
	return &worker.Spec{
		Attempt: worker.Attempt{Job: messages.JobID("bare"), Number: 1, Backend: backend}, Workspace: "bare", Action: "bare",
		Image: e.ref, Dir: dir, UID: cfg.UID, GID: cfg.GID, Limits: cfg.Limits,
	}
}
