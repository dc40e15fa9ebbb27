package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"

	"sluice/worker"
)

// Bare runs one container through the Engine's calls, one after another, with
// nothing around them: create, register the wait, start, wait, remove. It is
// what this program is measured against. With a spec the container has exactly
// the settings of an action's; without, the engine's own and no network.
func (r *Runtime) Bare(ctx context.Context, ref string, args []string, spec *worker.Spec) error {
	config := &container.Config{Image: ref, Entrypoint: args, Labels: map[string]string{labelWorker: r.cfg.Worker, labelInstance: r.id}}
	host := &container.HostConfig{NetworkMode: "none"}
	if spec != nil {
		var err error
		if host, err = r.hostConfig(ctx, *spec); err != nil {
			return err
		}
		config = r.config(*spec)
		config.Image, config.Entrypoint, config.Cmd = ref, args, nil
	}
	made, err := r.cli.ContainerCreate(ctx, config, host, nil, nil, "")
	if err != nil {
		return fmt.Errorf("create a bare container: %w", err)
	}
	code, err := r.runBare(ctx, made.ID)
	err = errors.Join(err, r.cli.ContainerRemove(context.WithoutCancel(ctx), made.ID, container.RemoveOptions{Force: err != nil, RemoveVolumes: true}))
	if err != nil {
		return fmt.Errorf("run a bare container: %w", err)
	}
	if code != 0 {
		return fmt.Errorf("a bare container of image %s ended with code %d", ref, code)
	}
	return nil
}

func (r *Runtime) runBare(ctx context.Context, id string) (code int64, err error) {
	next, fail := r.cli.ContainerWait(ctx, id, container.WaitConditionNextExit)
	if err := r.cli.ContainerStart(ctx, id, container.StartOptions{}); err != nil {
		discard(next, fail)
		return 0, err
	}
	select {
	case answer := <-next:
		if answer.Error != nil {
			return 0, errors.New(answer.Error.Message)
		}
		return answer.StatusCode, nil
	case err := <-fail:
		return 0, err
	}
}

// Containers names all that the engine has, whosever they are, and what each
// does. Two answers are alike if nothing began or ended between them.
func (r *Runtime) Containers(ctx context.Context) (string, error) {
	list, err := r.cli.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return "", fmt.Errorf("list containers: %w", err)
	}
	var all []string
	for _, c := range list {
		all = append(all, c.ID+" "+c.State)
	}
	slices.Sort(all)
	return strings.Join(all, "\n"), nil
}

// Clear removes every container that carries the id of this worker's folder,
// whatever it does. Nothing may make new ones meanwhile.
func (r *Runtime) Clear(ctx context.Context) error {
	if r.id == "" {
		return errors.New("a worker without a folder has no containers of its own")
	}
	list, err := r.cli.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", labelInstance+"="+r.id))})
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	var errs []error
	for _, c := range list {
		errs = append(errs, (&box{r: r, id: c.ID}).Remove(ctx))
	}
	return errors.Join(errs...)
}

// Import makes an image of a tar archive of its root folder, without a
// registry.
func (r *Runtime) Import(ctx context.Context, ref string, archive io.Reader, changes ...string) error {
	progress, err := r.cli.ImageImport(ctx, image.ImportSource{Source: archive, SourceName: "-"}, ref, image.ImportOptions{Changes: slices.Clone(changes)})
	if err != nil {
		return fmt.Errorf("import image %s: %w", ref, err)
	}
	defer progress.Close()
	if err := readProgress(progress, func(string) {}); err != nil {
		return fmt.Errorf("import image %s: %w", ref, err)
	}
	return nil
}

// Drop removes an image's name, and the image if it was the last one.
func (r *Runtime) Drop(ctx context.Context, ref string) error {
	if _, err := r.cli.ImageRemove(ctx, ref, image.RemoveOptions{}); err != nil {
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	return nil
}

// Storage says what engine this is, and what it keeps containers on.
func (r *Runtime) Storage(ctx context.Context) (version, driver string, err error) {
	info, err := r.cli.Info(ctx)
	if err != nil {
		return "", "", fmt.Errorf("ask the engine for its machine: %w", err)
	}
	return info.ServerVersion, info.Driver, nil
}

// Tag gives an image of this engine another name. One that has a program of its
// own is refused: it would take a command line for that program's arguments.
func (r *Runtime) Tag(ctx context.Context, ref, name string) error {
	found, err := r.cli.ImageInspect(ctx, ref)
	if err != nil {
		return fmt.Errorf("look for image %s: %w", ref, err)
	}
	if found.Config != nil && len(found.Config.Entrypoint) > 0 {
		return fmt.Errorf("image %s has an entry point, %q; one without is needed", ref, found.Config.Entrypoint)
	}
	if err := r.cli.ImageTag(ctx, ref, name); err != nil {
		return fmt.Errorf("name image %s %s: %w", ref, name, err)
	}
	return nil
}
