package staging

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// copyFolder copies a study's working folder: all but what the project's
// patterns name as outputs, what earlier runs left, and what is ours or git's.
func copyFolder(ctx context.Context, folder string, patterns []string, dir string) error {
	folder, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return fmt.Errorf("copy the study's folder: %w", err)
	}
	earlier, err := earlierOutputs(folder)
	if err != nil {
		return err
	}
	skip := func(rel string, folder bool) bool {
		switch rel {
		case ".git", ".sluice", "metadata":
			return true
		}
		return !folder && (earlier[rel] || slices.ContainsFunc(patterns, func(p string) bool { return messages.Glob(p, rel) }))
	}
	if err := copyTree(ctx, folder, dir, skip); err != nil {
		return fmt.Errorf("copy the study's folder: %w", err)
	}
	return nil
}

// copyTree copies folders, regular files and links as they are; other things
// are left out. Nothing is followed.
func copyTree(ctx context.Context, from, to string, skip func(rel string, folder bool) bool) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // went away while we looked
			}
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil || rel == "." {
			return err
		}
		if skip != nil && skip(rel, d.IsDir()) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		target := filepath.Join(to, rel)
		switch {
		case d.IsDir():
			return os.Mkdir(target, 0o755)
		case d.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		case d.Type().IsRegular():
			return copyFile(path, target)
		}
		return nil
	})
}

func copyFile(from, to string) (err error) {
	in, err := os.OpenFile(from, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is no longer a regular file", from)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, info.Mode().Perm()|0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in) // between two files: the kernel copies, or shares blocks
	return err
}

// copyAll fills files with the code and the inputs, and notes what lies there.
func (a *Area) copyAll(ctx context.Context, w *Workspace, layers []string) error {
	code := len(layers) - 1
	if err := copyTree(ctx, layers[code], w.files, nil); err != nil {
		return fmt.Errorf("copy the code: %w", err)
	}
	for _, inputs := range layers[:code] {
		if err := merge(inputs, w.files); err != nil {
			return fmt.Errorf("lay the inputs: %w", err)
		}
	}
	if err := a.finishTree(w.files, nil); err != nil {
		return err
	}
	if err := a.ownFiles(w.files); err != nil {
		return err
	}
	before, err := stamps(ctx, w.files)
	if err != nil {
		return err
	}
	if err := writeBefore(filepath.Join(w.Dir, "before.jsonl"), before); err != nil {
		return err
	}
	w.before, w.given, w.Mount = before, sizes(before), w.files
	return nil
}

// merge moves a tree over another. Both are ours; a file of the upper one
// takes the place of what is there.
func merge(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		source, target := filepath.Join(from, e.Name()), filepath.Join(to, e.Name())
		there, err := os.Lstat(target)
		switch {
		case err == nil && there.IsDir() && e.IsDir():
			if err := merge(source, target); err != nil {
				return err
			}
			continue
		case err == nil:
			if err := removeAll(target); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := os.Rename(source, target); err != nil {
			return err
		}
	}
	return nil
}
