package docker_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"sluice/worker"
	"sluice/worker/docker"
)

// untilGo is a script that runs until there is a file go in its workspace.
const untilGo = "while ! [ -e go ]; do sleep 0.1; done"

func letGo(t *testing.T, spec worker.Spec) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(spec.Dir, "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

func (y yard) instance(t *testing.T) string {
	t.Helper()
	id, err := os.ReadFile(filepath.Join(y.dir, "instance"))
	if err != nil {
		t.Fatal(err)
	}
	return string(id)
}

// names tells of the new names and the removals of this worker's containers from
// now on: the next of a container's is returned, "" for its removal.
func (y yard) names(t *testing.T) func(c worker.Container) string {
	t.Helper()
	told, failed := y.cli.Events(t.Context(), events.ListOptions{Since: time.Now().Format(time.RFC3339Nano), Filters: filters.NewArgs(
		filters.Arg("type", string(events.ContainerEventType)), filters.Arg("label", "sluice.instance="+y.instance(t)),
		filters.Arg("event", string(events.ActionRename)), filters.Arg("event", string(events.ActionDestroy)),
	)})
	return func(c worker.Container) string {
		t.Helper()
		late := time.After(time.Minute)
		for {
			select {
			case e := <-told:
				switch {
				case e.Actor.ID != docker.ID(c):
				case e.Action == events.ActionDestroy:
					return ""
				default:
					return e.Actor.Attributes["name"]
				}
			case err := <-failed:
				t.Fatal(err)
			case <-late:
				t.Fatal("the engine told of no name and no removal")
			}
		}
	}
}

// TestParkedName: a container that runs gets its attempt's name; one that was
// over before never had it.
func TestParkedName(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	next := y.names(t)
	runs := y.spec(t, "runs", "sh", "-c", untilGo)
	box, err := y.StartParked(t.Context(), runs)
	if err != nil {
		t.Fatal(err)
	}
	want := "sluice-" + string(runs.Attempt.Job) + "-1-" + y.instance(t)
	if got := next(box); got != want {
		t.Errorf("a container that runs was named %q, want %q", got, want)
	}
	if found, err := y.cli.ContainerInspect(t.Context(), want); err != nil || found.ID != docker.ID(box) {
		t.Errorf("inspect by the name = %s, %v", found.ID, err)
	}
	letGo(t, runs)
	if exit, err := box.Wait(t.Context()); err != nil || exit.Code != 0 {
		t.Errorf("Wait = %+v, %v", exit, err)
	}
	if err := box.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	for try := 1; ; try++ {
		short := y.spec(t, "short "+strings.Repeat("i", try), "true")
		box, err := y.StartParked(t.Context(), short)
		if err != nil {
			t.Fatal(err)
		}
		exit, err := box.Wait(t.Context())
		if err := box.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		took := exit.Finished.Sub(exit.Started)
		if err == nil && took >= docker.NameAfter && try < 100 {
			continue // on a machine that is busy
		}
		if got := next(box); got != "" || err != nil || took >= docker.NameAfter {
			t.Errorf("a container that ran for %v was named %q (%v), want no new name", took, got, err)
		}
		return
	}
}

// TestParkedAdopted: a container is an attempt's, for a later process, by what
// was written down before its command went through. By its name it is not: that
// is given to it late.
func TestParkedAdopted(t *testing.T) {
	t.Parallel()
	y := openYard(t)
	next := y.names(t)
	spec := y.spec(t, "", "sh", "-c", untilGo)
	box, err := y.StartParked(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	name := next(box)
	if err := y.cli.ContainerRename(t.Context(), docker.ID(box), "sluice-parked-"+name); err != nil {
		t.Fatal(err)
	}
	next(box)
	if found, err := y.Find(t.Context()); err != nil || len(found) != 1 {
		t.Errorf("Find by the process that started it = %v, %v, want the attempt's", found, err)
	}

	later := y.open(t)
	taken, err := filepath.Glob(filepath.Join(y.dir, "parked", "*", "*", "taken.json"))
	if err != nil || len(taken) != 1 {
		t.Fatalf("what is written down: %v, %v", taken, err)
	}
	fifo := filepath.Join(filepath.Dir(taken[0]), "wait", "fifo")
	whole, err := os.ReadFile(taken[0])
	if err != nil {
		t.Fatal(err)
	}
	write := func(path string, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantNone := func(why string) {
		t.Helper()
		if found, err := later.Find(t.Context()); err != nil || len(found) != 0 {
			t.Errorf("Find = %v, %v, want none: %s", found, err, why)
		}
	}
	write(fifo, nil)
	wantNone("the command was not handed over")
	if err := os.Remove(fifo); err != nil {
		t.Fatal(err)
	}
	for _, half := range [][]byte{whole[:len(whole)/2], []byte("{}"), nil} {
		write(taken[0], half)
		wantNone("what it became is not known")
	}
	write(taken[0], whole)
	found, err := later.Find(t.Context())
	if err != nil || len(found) != 1 || found[0].Attempt() != spec.Attempt {
		t.Fatalf("Find = %v, %v, want the attempt's", found, err)
	}
	over := make(chan error, 2)
	for _, c := range []worker.Container{box, found[0]} {
		go func() {
			exit, err := c.Wait(t.Context())
			if err == nil && exit.Code != 0 {
				err = fmt.Errorf("exit %+v", exit)
			}
			over <- err
		}()
	}
	if got := next(box); got != name {
		t.Errorf("it was named %q, want %q", got, name)
	}
	letGo(t, spec)
	if err := errors.Join(<-over, <-over); err != nil {
		t.Error(err)
	}
	if err := found[0].Remove(t.Context()); err != nil {
		t.Error(err)
	}
}
