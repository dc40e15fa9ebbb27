package planner

import (
	"context"

	"sluice/messages"
)

// checkFiles looks for the files message of an attempt that its worker has
// handed over. One that is in no queue any more, and has made no commit, was
// given up: the job must not wait for it for ever. If the message is put back
// in time, and commits first, it wins after all.
func (s *session) checkFiles(ctx context.Context, j *job) error {
	r := j.record
	subject := (&messages.Files{Backend: r.Backend, Workspace: r.Workspace, Job: r.ID}).Subject()
	queued, err := s.Files.FilesQueued(ctx, subject)
	if err != nil {
		s.log.Warn().Err(err).Str("job", string(r.ID)).Msg("cannot see whether the files message still waits for its persister")
		return nil
	}
	if queued {
		return nil
	}
	c, err := s.commit(ctx, j.key) // made since the last look, perhaps
	switch {
	case err != nil:
		return err
	case c != nil:
		return s.settle(ctx, j, c)
	}
	return s.retry(ctx, j, j.lease.owner, "its files message was given up, see `sluice dead ls`")
}
