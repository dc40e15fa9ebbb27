package cli

import (
	"context"
	"errors"

	"sluice/internal/registry"
	"sluice/messages"
)

// pins introduces a registry to the planner.
type pins struct {
	registry *registry.Registry
}

// Digest returns what an image's name stands for now. A Failure says that there
// is no such image.
func (p pins) Digest(ctx context.Context, image string) (string, error) {
	digest, err := p.registry.Digest(ctx, image)
	if errors.Is(err, registry.ErrNone) {
		return "", messages.Failf(messages.JobError, "image %s is not available: the registry has none of that name and version; check them in project.yaml", messages.Quote(image))
	}
	return digest, err
}
