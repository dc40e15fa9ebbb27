package docker

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
)

// noImageHas is the name of an image that no machine has: .invalid is nobody's
// (RFC 2606).
const noImageHas = "sluice.invalid/none:none"

// Sees reports whether the engine finds a file or a folder where this process
// finds it. It may run on another machine, or in another mount namespace, in
// which what this process mounts is not mounted.
//
// The engine looks for what a container is to have mounted before it looks for
// the image: so a container of no image is asked for, and the kind of the
// refusal is the answer. Nothing is made.
func (r *Runtime) Sees(ctx context.Context, path string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	made, err := r.cli.ContainerCreate(ctx,
		&container.Config{Image: noImageHas, Cmd: []string{"none"}},
		&container.HostConfig{Mounts: []mount.Mount{{Type: mount.TypeBind, Source: path, Target: "/seen", ReadOnly: true}}}, nil, nil, "")
	switch {
	case errdefs.IsNotFound(err):
		return true, nil // it got as far as the image
	case errdefs.IsInvalidArgument(err):
		return false, nil
	case err == nil:
		return false, errors.Join(fmt.Errorf("the engine made a container of image %s, which nobody has", noImageHas), (&box{r: r, id: made.ID}).Remove(ctx))
	}
	return false, away{fmt.Errorf("ask the engine for %s: %w", path, err)}
}
