package staging

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"sluice/messages"
)

// layInputs copies the outputs of the jobs that an action needs out of the
// highly sensitive tier. What is missing or not as its job's manifest says is
// our fault, never the study's.
func (a *Area) layInputs(ctx context.Context, action *messages.Action, dir string, w *Workspace) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make staging: %w", err)
	}
	high, err := os.OpenFile(a.cfg.High(action.Workspace), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open workspace %s: %w", action.Workspace, err)
	}
	defer high.Close()
	laid := map[messages.Path]bool{}
	for _, in := range action.Inputs {
		manifest, err := a.manifest(in)
		if err != nil {
			return fmt.Errorf("read what job %s of action %s left: %w", in.Job, in.Action, err)
		}
		if err := a.layFiles(ctx, manifest.Files, high, dir, w, laid); err != nil {
			var bad *badInput
			if errors.As(err, &bad) {
				err = fmt.Errorf("file %s of action %s in workspace %s, as requested for job %s: %w", bad.path, in.Action, action.Workspace, action.Job, bad.err)
			}
			return err
		}
	}
	return a.own(dir)
}

// A badInput is a file of the tier that is not as its job left it.
type badInput struct {
	path messages.Path
	err  error
}

func (b *badInput) Error() string { return fmt.Sprintf("file %s: %v", b.path, b.err) }
func (b *badInput) Unwrap() error { return b.err }

// layFiles copies the files of one job, two at a time.
func (a *Area) layFiles(ctx context.Context, files []messages.ManifestFile, high *os.File, dir string, w *Workspace, laid map[messages.Path]bool) error {
	copies, going := errgroup.WithContext(ctx)
	copies.SetLimit(2)
	made := map[string]bool{}
	for _, f := range files {
		if going.Err() != nil {
			break
		}
		if laid[f.Path] {
			continue
		}
		laid[f.Path] = true
		if err := makeParents(dir, string(f.Path), made, a.own); err != nil {
			return errors.Join(err, copies.Wait())
		}
		w.Bytes += f.Size
		if len(w.Given) < messages.MaxGiven {
			w.Given = append(w.Given, f.Path)
		}
		copies.Go(func() error {
			if going.Err() != nil {
				return context.Cause(going)
			}
			if err := a.layInput(high, f, filepath.Join(dir, string(f.Path))); err != nil {
				return &badInput{f.Path, err}
			}
			return nil
		})
	}
	if err := copies.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// manifest reads the manifest of an input and compares it with the commit's
// digest.
func (a *Area) manifest(in messages.Input) (*messages.JobManifest, error) {
	if err := in.Job.Check(); err != nil {
		return nil, err
	}
	path := filepath.Join(a.cfg.Records, messages.RecordMonth(in.Created), string(in.Job), "manifest.json")
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, messages.MaxManifest))
	if err != nil {
		return nil, err
	}
	if got := messages.Digest(data); got != in.Manifest {
		return nil, fmt.Errorf("its manifest has digest %s, its commit says %s", got, in.Manifest)
	}
	var m messages.JobManifest
	return &m, messages.Decode(data, &m)
}

// layInput lays one file of the tier, which must be as its job left it. It
// becomes the container user's own, as an action may change what it was given;
// the tier's does not.
func (a *Area) layInput(high *os.File, f messages.ManifestFile, to string) error {
	in, err := openBeneath(high, string(f.Path))
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("the file doesn't exist")
	}
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return errors.New("it is no longer a regular file")
	case info.Size() != f.Size:
		return fmt.Errorf("it has %d bytes, its job left %d", info.Size(), f.Size)
	}
	return a.layKept(in, f, to)
}

// copyInput copies a file of the tier, and checks the digest of the copy.
func (a *Area) copyInput(in *os.File, f messages.ManifestFile, to string) (err error) {
	out, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, out); err != nil {
		return err
	}
	if got := messages.FormatDigest(sum.Sum(nil)); got != f.Digest {
		return fmt.Errorf("it was changed since its job left it (digest %s, was %s)", got, f.Digest)
	}
	return a.own(to)
}
