package bench

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestBaselines: the bare loops do the work that they are measured for.
func TestBaselines(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	if err := os.MkdirAll(filepath.Join(from, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"a.txt": "one", "sub/b.txt": "two"} {
		if err := os.WriteFile(filepath.Join(from, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, keep := range map[string]func(to string) error{
		"loop": func(to string) error { return copyHashSync(from, to) },
		"cp":   func(to string) error { return copyAndSync(t.Context(), from, to) },
	} {
		to := filepath.Join(dir, name)
		if err := keep(to); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(filepath.Join(to, "sub", "b.txt")); err != nil || string(got) != "two" {
			t.Errorf("%s left %q, %v", name, got, err)
		}
	}
}

// TestProcess: what a process uses can be read while it runs, and a process
// that has ended is said to have.
func TestProcess(t *testing.T) {
	t.Parallel()
	c := &child{cmd: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}, ended: make(chan struct{})}
	if used, err := c.cpu(); err != nil || used < 0 {
		t.Errorf("cpu = %v, %v", used, err)
	}
	if mb, err := c.memory(); err != nil || mb < 1 {
		t.Errorf("memory = %v MiB, %v", mb, err)
	}
	gone, err := startChild("true", "x")
	if err != nil {
		t.Fatal(err)
	}
	<-gone.ended
	if gone.alive() == nil {
		t.Error("a process that has ended is called alive")
	}
	if err := gone.stop(); err != nil {
		t.Errorf("stop of one that has ended: %v", err)
	}
	if _, err := gone.await(t.Context(), filepath.Join(t.TempDir(), "never")); err == nil {
		t.Error("a process that has ended became ready")
	}
}
