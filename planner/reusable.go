package planner

import (
	"context"
	"errors"
	"fmt"

	"sluice/messages"
	"sluice/planner/project"
)

// reusableBranch must have a reusable action's commit: what is on it was looked
// at by somebody.
const reusableBranch = "main"

// maxReusables bounds the reusable actions that one project may name.
const maxReusables = 200

// reuse resolves the reusable actions of a project. What is wrong with one is
// told where a request needs it, and only there. The error wraps errNotHere.
func (p *Planner) reuse(ctx context.Context, prj *project.Project) error {
	if p.Reusable == nil {
		return nil
	}
	found := map[string]*reusable{}
	for _, a := range prj.Actions {
		if p.Reusable.IsImage(a.ImageName) {
			continue
		}
		in := fmt.Sprintf("in '%s: %s' ", a.Name, a.Image)
		r := found[a.Image]
		if r == nil {
			if len(found) == maxReusables {
				a.Refuse(fmt.Sprintf("%sthe project names more than %d reusable actions", in, maxReusables))
				continue
			}
			var err error
			if r, err = p.lookUpReusable(ctx, a); err != nil {
				return fmt.Errorf("%w: reusable action %s: %w", errNotHere, a.Image, err)
			}
			found[a.Image] = r
		}
		switch {
		case r.wrong != "":
			a.Refuse(in + r.wrong)
		default:
			if err := a.Reuse(r.run, r.src.Repo, r.src.Commit, p.Reusable.IsImage); err != nil {
				a.Refuse(in + invalidReusable(r.src.Repo, err))
			}
		}
	}
	return nil
}

// A reusable is what became of one reusable action.
type reusable struct {
	src   messages.Source
	run   string
	wrong string
}

func (p *Planner) lookUpReusable(ctx context.Context, a *project.Action) (*reusable, error) {
	src, file, err := p.Reusable.Action(ctx, a.ImageName, a.ImageVersion)
	var failure *messages.Failure
	if errors.As(err, &failure) {
		return &reusable{wrong: failure.Detail}, nil
	}
	if err != nil {
		return nil, err
	}
	run, err := project.ParseReusable(file)
	if err != nil {
		return &reusable{wrong: invalidReusable(src.Repo, err)}, nil
	}
	return &reusable{src: src, run: run}, nil
}

func invalidReusable(repo string, err error) string {
	return fmt.Sprintf("invalid action, please open an issue on %s/issues\n\n  ReusableActionError: %v", repo, err)
}
