package persister

import (
	"context"
	"errors"
	"fmt"

	"sluice/internal/fault"
	"sluice/messages"
)

// An attempt is one files message on its way (protocol, part 4).
type attempt struct {
	*Persister
	files  *messages.Files
	job    *messages.Job
	at     Attempt
	tries  int
	commit *messages.Commit // nil if there was none when the message was read
}

// handle takes one files message: nil acknowledges it, a Parked error gives it
// up with its reason, any other error has it delivered again.
func (p *Persister) handle(ctx context.Context, d *messages.Delivery) error {
	a, err := p.read(ctx, d)
	if err != nil {
		return err
	}
	event := &messages.PersisterEvent{
		Job: a.files.Job, Attempt: a.files.Attempt, Backend: a.files.Backend, Workspace: a.files.Workspace,
	}
	fault.At("persister.after-take")
	done, err := p.Turns.take(ctx)
	if err != nil {
		return err
	}
	err = a.decide(ctx, event)
	done()
	p.stuck.tried(a.at.Workspace, err, event.Verdict, p.Now())
	if err = a.enough(ctx, event, err); err != nil {
		return fmt.Errorf("persist %s: %w", a.at, err)
	}
	fault.At("persister.before-verdict")
	event.At, event.Reason = p.Now().UTC(), clip(event.Reason)
	// One answer for each files message: a worker that asks again, as it missed
	// the answer, gets another.
	id := fmt.Sprintf("verdict/%s/%d/%d", event.Job, event.Attempt, d.At.UnixNano())
	if err := p.Outbox.Publish(ctx, event.Subject(), event, id); err != nil {
		return fmt.Errorf("publish verdict on %s: %w", a.at, err)
	}
	p.log.Info().Str("workspace", a.at.Workspace).Str("job", string(a.at.Job)).Int("attempt", a.at.Number).
		Str("verdict", string(event.Verdict)).Int("committed", event.Winner).Msg("attempt handled")
	return nil
}

// read decodes a message, compares it with its subject and with the planner's
// record, and reads the job's commit.
func (p *Persister) read(ctx context.Context, d *messages.Delivery) (*attempt, error) {
	f := &messages.Files{}
	if err := messages.Decode(d.Data, f); err != nil {
		return nil, messages.Park("the files message cannot be used: %w", err)
	}
	place, err := messages.ParseSubject(d.Subject)
	switch {
	case err != nil:
		return nil, messages.Park("the files message came on a subject that is not one: %w", err)
	case place.Kind != "files" || place.Backend != f.Backend || place.Workspace != f.Workspace || place.Job != f.Job:
		return nil, messages.Park("the message is for job %s of workspace %s on %s; its subject %s says otherwise", f.Job, f.Workspace, f.Backend, messages.Quote(d.Subject))
	case f.Backend != p.cfg.Backend:
		return nil, messages.Park("the message is for backend %s; this persister serves %s", f.Backend, p.cfg.Backend)
	}
	entry, err := p.Jobs.Get(ctx, messages.JobKey(f.Backend, f.Workspace, f.Job))
	switch {
	case errors.Is(err, messages.ErrNotFound), err == nil && entry.Value == nil:
		return nil, messages.Park("job %s of workspace %s has no record: nobody planned it", f.Job, f.Workspace)
	case errors.Is(err, messages.ErrUnreadable):
		return nil, messages.Park("the record of job %s is none: %w", f.Job, err)
	case err != nil:
		return nil, fmt.Errorf("read record of job %s: %w", f.Job, err)
	}
	job := entry.Value
	switch {
	case job.ID != f.Job || job.Workspace != f.Workspace || job.Backend != f.Backend:
		return nil, messages.Park("the record of job %s is of job %s in workspace %s on %s", f.Job, job.ID, messages.Quote(job.Workspace), messages.Quote(job.Backend))
	case f.Attempt < 1 || f.Attempt > job.Attempt:
		return nil, messages.Park("attempt %d of job %s was never dispatched: the record knows %d", f.Attempt, f.Job, job.Attempt)
	}
	a := &attempt{
		Persister: p, files: f, job: job, tries: d.Tries,
		at: Attempt{Workspace: f.Workspace, Action: job.Action, Job: f.Job, Number: f.Attempt, Created: job.Created},
	}
	a.commit, err = p.commit(ctx, f.Job)
	return a, err
}

// decide finds the verdict and does what it takes.
func (a *attempt) decide(ctx context.Context, event *messages.PersisterEvent) error {
	switch {
	case a.commit != nil && a.commit.Attempt != a.at.Number:
		return a.discard(ctx, event, a.commit)
	case a.commit != nil:
		done, err := a.Store.Published(ctx, a.at, a.commit.Manifest, a.committed)
		if err != nil {
			return err
		}
		if done {
			event.Verdict, event.Winner = messages.Persisted, a.at.Number
			return nil
		}
	case a.files.Cancelled:
		return a.discard(ctx, event, nil)
	}
	return a.persist(ctx, event)
}

// discard keeps the record of an attempt whose files will never be the job's.
func (a *attempt) discard(ctx context.Context, event *messages.PersisterEvent, winner *messages.Commit) error {
	event.Verdict = messages.Discarded
	switch {
	case winner == nil:
		event.Reason = "the attempt was cancelled"
	case winner.Tombstone():
		event.Reason = fmt.Sprintf("the job has ended: %s", winner.Code)
	default:
		event.Winner = winner.Attempt
		event.Reason = fmt.Sprintf("attempt %d has the commit", winner.Attempt)
	}
	return a.keep(ctx, event.Reason)
}

// keep stores the attempt's record alone, with the reason for that.
func (a *attempt) keep(ctx context.Context, reason string) error {
	draft, err := a.Store.Begin(ctx, a.at)
	if err != nil {
		return err
	}
	record, err := a.record(draft, &account{note: reason})
	if err == nil {
		err = draft.Keep(ctx, record)
	}
	return errors.Join(err, draft.Close())
}

// persist makes the attempt's files the job's, if it is the first to commit.
func (a *attempt) persist(ctx context.Context, event *messages.PersisterEvent) error {
	if err := a.stuck.wait(a.at.Workspace, a.Now()); err != nil && a.commit == nil {
		return err
	}
	draft, err := a.Store.Begin(ctx, a.at)
	if err != nil {
		return err
	}
	return errors.Join(a.persistDraft(ctx, event, draft), draft.Close())
}

func (a *attempt) persistDraft(ctx context.Context, event *messages.PersisterEvent, draft Draft) error {
	acc, err := a.account(ctx, draft)
	if err == nil {
		var publication *Publication
		if publication, err = a.publication(ctx, draft, acc); err == nil {
			err = draft.Publish(ctx, publication)
		}
	}
	var differs *Differs
	if errors.As(err, &differs) {
		err = &unusable{fmt.Sprintf("%d files are not as the worker listed them", len(differs.Problems)), differs.Error()}
	}
	var bad *unusable
	var blocked *Blocked
	switch {
	case err == nil:
		event.Verdict, event.Winner = messages.Persisted, a.at.Number
		return nil
	case errors.As(err, &bad) && a.commit == nil && a.tries < a.cfg.Tries:
		// The files may only be late, on a network file system. The error is for
		// our own log, which no name of a study's file belongs in.
		return fmt.Errorf("%s; they count as unusable after delivery %d, this is %d", bad.brief, a.cfg.Tries, a.tries)
	case errors.As(err, &bad), errors.As(err, &blocked):
		if a.commit != nil {
			return messages.Park("attempt %d of job %s has the commit, and its files cannot be made visible: %w", a.at.Number, a.at.Job, err)
		}
		event.Verdict, event.Reason = messages.Unusable, err.Error()
		return errors.Join(draft.Close(), a.keep(ctx, event.Reason))
	case errors.Is(err, ErrLost):
		return errors.Join(draft.Close(), a.lost(ctx, event))
	}
	return err
}

// lost keeps the record of an attempt that found out at the commit.
func (a *attempt) lost(ctx context.Context, event *messages.PersisterEvent) error {
	winner, err := a.Persister.commit(ctx, a.at.Job)
	if err == nil && winner == nil {
		err = errors.New("the commit that was lost to another cannot be read")
	}
	if err != nil {
		return err
	}
	return a.discard(ctx, event, winner)
}
