package planner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"sluice/messages"
	"sluice/planner/project"
)

// Bounds of the questions about the images of one project.
const (
	pinsAtOnce = 4
	pinTimeout = time.Minute // of all of them
)

// An unpinnedError says that a plan has to wait for the registry. It is
// errNotHere, too.
type unpinnedError struct {
	action string
	cause  error
}

func (e *unpinnedError) Error() string {
	return fmt.Sprintf("what the image of action %s stands for cannot be had for now: %v", messages.Quote(e.action), e.cause)
}

func (e *unpinnedError) Unwrap() []error { return []error{errNotHere, e.cause} }

// pin looks up what the images of a project stand for now: all attempts of a
// job run the same one, whatever its name comes to stand for. An image that
// does not exist, or of which nothing can be found out, matters where a request
// needs it, and only there.
func (p *Planner) pin(ctx context.Context, prj *project.Project) {
	if p.Images == nil {
		return
	}
	users := map[string][]*project.Action{}
	for _, a := range prj.Actions {
		if command, err := a.Command(); err == nil { // an error is told elsewhere
			users[command[0]] = append(users[command[0]], a)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, pinTimeout)
	defer cancel()
	var group errgroup.Group
	group.SetLimit(pinsAtOnce)
	for image, actions := range users {
		group.Go(func() error {
			digest, err := p.Images.Digest(ctx, image)
			var failure *messages.Failure
			for _, a := range actions {
				switch {
				case errors.As(err, &failure):
					a.Refuse(fmt.Sprintf("Action '%s': %s", a.Name, failure.Detail))
				case err != nil:
					a.Unpinned = fmt.Errorf("image %s: %w", image, err)
				default:
					a.Digest = digest
				}
			}
			return nil
		})
	}
	_ = group.Wait() // its functions return no error
}

// pinned reports a job of a plan whose image is not known. The error wraps
// errNotHere.
func pinned(prj *project.Project, planned []messages.Planned) error {
	for _, j := range planned {
		if a := prj.Action(j.Action); !j.Reused && a != nil && a.Unpinned != nil {
			return &unpinnedError{j.Action, a.Unpinned}
		}
	}
	return nil
}
