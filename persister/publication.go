package persister

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"sluice/messages"
)

// unusable is an error of what the worker left, as against one of ours.
type unusable struct {
	brief  string // without the names of files
	reason string
}

func (u *unusable) Error() string { return u.reason }

// account matches, copies and checks the attempt's files.
func (a *attempt) account(ctx context.Context, draft Draft) (*account, error) {
	listing, err := a.listing(draft)
	if err != nil {
		return nil, err
	}
	acc := &account{matching: Match(a.job.Rules, listing, a.files.Given)}
	if acc.outputs, err = a.copy(ctx, draft, acc.matching.Files); err != nil {
		return nil, err
	}
	acc.result = newResult(a.files, acc.matching, acc.outputs)
	return acc, nil
}

// listing reads what the attempt left, from the message or from staging.
func (a *attempt) listing(draft Draft) ([]messages.File, error) {
	var stored io.Reader
	if a.files.Listing.Stored {
		f, err := draft.Open(StagedListing)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &unusable{"the listing cannot be opened", "the listing cannot be opened: " + err.Error()}
		}
		if err != nil {
			return nil, fmt.Errorf("open listing: %w", err)
		}
		defer f.Close()
		stored = f
	}
	files, err := a.files.Listing.Read(stored)
	if err != nil {
		return nil, &unusable{"the listing cannot be used", "the listing cannot be used: " + err.Error()}
	}
	return files, nil
}

// copy takes the matched files out of staging and checks those that are
// moderately sensitive.
func (a *attempt) copy(ctx context.Context, draft Draft, matched []Matched) ([]Output, error) {
	files, outputs := make([]messages.File, len(matched)), make([]Output, len(matched))
	for i, m := range matched {
		files[i] = m.File
		outputs[i] = Output{Path: m.Path, Tier: m.Tier, Size: m.Size, Digest: m.Digest, Time: m.Time}
	}
	if err := draft.Copy(ctx, files); err != nil {
		return nil, err
	}
	for i := range outputs {
		if outputs[i].Tier != messages.ModeratelySensitive {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		var err error
		if outputs[i].Finding, err = a.inspect(draft, i, matched[i]); err != nil {
			return nil, err
		}
	}
	return outputs, nil
}

func (a *attempt) inspect(draft Draft, i int, m Matched) (Finding, error) {
	f, err := draft.Copied(i)
	if err != nil {
		return Finding{}, fmt.Errorf("open the copy of %s: %w", m.Path, err)
	}
	finding, err := a.cfg.Checks.Inspect(m.Path, m.Size, f)
	if err := errors.Join(err, f.Close()); err != nil {
		return Finding{}, fmt.Errorf("check %s: %w", m.Path, err)
	}
	return finding, nil
}

// publication puts together what Publish needs.
func (a *attempt) publication(ctx context.Context, draft Draft, acc *account) (*Publication, error) {
	aside := a.cfg.FailedAside && acc.result.Code() != messages.Success
	manifest, err := a.manifest(acc.outputs, aside)
	if err == nil && a.commit != nil && messages.Digest(manifest) != a.commit.Manifest {
		aside = !aside // the setting was another when the commit was made
		manifest, err = a.manifest(acc.outputs, aside)
	}
	if err != nil {
		return nil, err
	}
	result := acc.result
	if a.commit != nil {
		// The commit was this attempt's already, and what it left on the disk is
		// gone: the same files are made visible, or none.
		if messages.Digest(manifest) != a.commit.Manifest {
			return nil, messages.Park("attempt %d of job %s has the commit, and its files or the checks have changed since", a.at.Number, a.at.Job)
		}
		result = a.commit.Result
	}
	record, err := a.record(draft, acc)
	if err != nil {
		return nil, err
	}
	actions, err := a.actions(ctx)
	if err != nil {
		return nil, err
	}
	change := Change{Job: a.job, Outputs: acc.outputs, Succeeded: result.Code() == messages.Success, Actions: actions, DeleteObsolete: a.cfg.DeleteObsolete}
	if !aside {
		if err := change.prepare(); err != nil {
			return nil, err
		}
	}
	return &Publication{
		Outputs: acc.outputs, Record: record, Manifest: manifest, Aside: aside, Arrange: change.Arrange, Committed: a.committed,
		Commit: func(ctx context.Context) error { return a.create(ctx, messages.Digest(manifest), result) },
	}, nil
}

// manifest encodes the job's manifest. The same attempt always has the same.
func (a *attempt) manifest(outputs []Output, aside bool) ([]byte, error) {
	m := &messages.JobManifest{
		Envelope: messages.Envelope{Schema: messages.Schema},
		Job:      a.at.Job, Attempt: a.at.Number, Backend: a.cfg.Backend, Workspace: a.at.Workspace, Action: a.at.Action,
		Files: make([]messages.ManifestFile, len(outputs)), At: a.files.Finished.UTC(), Aside: aside,
	}
	for i := range outputs {
		o := &outputs[i]
		m.Files[i] = messages.ManifestFile{Path: o.Path, Size: o.Size, Digest: o.Digest, Tier: o.Tier, Withheld: o.Reason}
	}
	if err := m.Validate(); err != nil {
		return nil, fmt.Errorf("manifest of %s: %w", a.at, err)
	}
	return encodePlain(m)
}

// create creates the commit. A conflict may be this attempt's own earlier
// write, whose ack was lost.
func (a *attempt) create(ctx context.Context, manifest string, result *messages.Result) error {
	if a.commit != nil {
		return nil
	}
	commit := &messages.Commit{Job: a.at.Job, Attempt: a.at.Number, Manifest: manifest, Result: result, At: a.Now().UTC()}
	_, err := a.Commits.Create(ctx, messages.CommitKey(a.cfg.Backend, a.at.Job), commit)
	if !errors.Is(err, messages.ErrConflict) {
		if err != nil {
			return registerError{fmt.Errorf("create commit: %w", err)}
		}
		return nil
	}
	there, err := a.Persister.commit(ctx, a.at.Job)
	switch {
	case err != nil:
		return err
	case there == nil:
		return errors.New("create commit: the register says that there is one, and has none")
	case there.Attempt != a.at.Number:
		return fmt.Errorf("create commit: %w: attempt %d, code %q", ErrLost, there.Attempt, there.Code)
	case there.Manifest != manifest:
		return errors.New("create commit: this attempt has the commit with another manifest")
	}
	return nil
}

// actions returns the actions of the project at the job's commit, or nil where
// they are not known.
func (a *attempt) actions(ctx context.Context) ([]string, error) {
	key := messages.PlanKey(a.job.Backend, a.job.Workspace, a.job.Request)
	if actions, known := a.projects.get(key); known {
		return actions, nil
	}
	entry, err := a.Plans.Get(ctx, key)
	switch {
	case errors.Is(err, messages.ErrNotFound), err == nil && entry.Value == nil:
		return nil, nil
	case err != nil:
		return nil, registerError{fmt.Errorf("read plan of request %s: %w", a.job.Request, err)}
	}
	a.projects.put(key, entry.Value.Actions)
	return entry.Value.Actions, nil
}

// maxContainer bounds the engine's record of a container, in bytes.
const maxContainer = 4 << 20

// record completes an account and writes it down.
func (a *attempt) record(draft Draft, acc *account) (*Record, error) {
	acc.job, acc.files, acc.now = a.job, a.files, a.Now()
	// The engine's record is for people who debug: one that is missing or
	// broken keeps nobody's outputs back.
	if container, err := draft.Open(StagedContainer); err == nil {
		data, readErr := io.ReadAll(io.LimitReader(container, maxContainer+1))
		if err := errors.Join(readErr, container.Close()); err != nil {
			return nil, fmt.Errorf("read the container's record: %w", err)
		}
		if len(data) <= maxContainer && json.Valid(data) {
			acc.container = data
		}
	}
	metadata, err := acc.metadata()
	if err != nil {
		return nil, err
	}
	return &Record{LogSize: a.files.Log.Bytes, Footer: acc.footer(), Metadata: metadata, Container: acc.container}, nil
}
