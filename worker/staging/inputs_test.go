package staging_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sluice/messages"
)

// TestBadInputs: what is missing or changed is our own fault, with its name, and
// nothing is followed or waited for.
func TestBadInputs(t *testing.T) {
	t.Parallel()
	const file = "output/in.csv"
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, s *site, path string) error
		want   string
	}{
		{"missing", func(_ *testing.T, _ *site, path string) error { return os.Remove(path) }, "the file doesn't exist"},
		{"changed", func(_ *testing.T, _ *site, path string) error { return os.WriteFile(path, []byte("ABC"), 0o644) }, "changed since"},
		{"longer", func(_ *testing.T, _ *site, path string) error { return os.WriteFile(path, []byte("abcd"), 0o644) }, "4 bytes"},
		{"a link", func(_ *testing.T, s *site, path string) error {
			return errors.Join(os.WriteFile(s.dir+"/secret", []byte("abc"), 0o600), os.Remove(path), os.Symlink(s.dir+"/secret", path))
		}, file},
		{"a folder that is a link", func(_ *testing.T, s *site, path string) error {
			return errors.Join(os.Rename(filepath.Dir(path), s.dir+"/elsewhere"), os.Symlink(s.dir+"/elsewhere", filepath.Dir(path)))
		}, "of action one"},
		{"a FIFO", func(_ *testing.T, _ *site, path string) error {
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		}, "not a regular file|no longer a regular file"},
		{"a folder", func(_ *testing.T, _ *site, path string) error {
			return errors.Join(os.Remove(path), os.Mkdir(path, 0o755))
		}, "no longer a regular file"},
		{"no workspace", func(_ *testing.T, s *site, _ string) error { return os.RemoveAll(s.high()) }, "workspace ws"},
		{"another manifest", func(t *testing.T, s *site, _ string) error {
			s.manifest(t, &messages.JobManifest{Job: messages.NewJobID("earlier", "one"), Attempt: 1, Backend: "test", Workspace: workspace, Action: "one"})
			return nil
		}, "its commit says"},
		{"no manifest", func(_ *testing.T, s *site, _ string) error { return os.RemoveAll(filepath.Join(s.dir, "high", "logs")) }, "action one"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, false, tree{"code": "1"})
			action := newAction()
			action.Inputs = []messages.Input{s.input(t, "one", tree{file: "abc", "output/fine.csv": "fine"})}
			do(t, tc.change(t, s, filepath.Join(s.high(), file)))
			_, err := s.Prepare(t.Context(), action)
			var failure *messages.Failure
			if err == nil || errors.As(err, &failure) || !containsAny(err.Error(), tc.want) {
				t.Errorf("Prepare error = %v, want one of ours with %q", err, tc.want)
			}
			if _, err := os.Stat(s.Dir(job, 1)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("staging of the attempt: %v, want it gone", err)
			}
		})
	}
}

func containsAny(s, alternatives string) bool {
	for want := range strings.SplitSeq(alternatives, "|") {
		if strings.Contains(s, want) {
			return true
		}
	}
	return false
}

// TestHostileManifest: a manifest that could write outside is refused, even
// with the digest that the commit names.
func TestHostileManifest(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"../escape", "/etc/passwd", "a/../../b", "a//b", "./a", ""} {
		s := newSite(t, false, tree{"code": "1"})
		data := []byte(`{"schema":1,"job":"` + string(job) + `","attempt":1,"backend":"test","workspace":"ws","action":"one","files":[{"path":"` + path + `","size":1,"digest":"` + messages.Digest([]byte("x")) + `","tier":"highly_sensitive"}]}`)
		in := s.input(t, "one", tree{"output/x": "x"})
		in.Manifest = messages.Digest(data)
		do(t, os.WriteFile(filepath.Join(s.dir, "high", "logs", "2026-11", string(in.Job), "manifest.json"), data, 0o644))
		action := newAction()
		action.Inputs = []messages.Input{in}
		if _, err := s.Prepare(t.Context(), action); err == nil {
			t.Errorf("Prepare with path %q succeeded", path)
		}
	}
}
