package worker

import (
	"context"
	"errors"
	"fmt"
	"math"

	"sluice/internal/fault"
	"sluice/messages"
)

// A step is one part of an attempt's way. An attempt that is taken over begins
// at the first step of the phase that its journal entry names.
type step struct {
	name  string
	phase phase
	do    func(*attempt) error
}

// steps are an attempt's way from its claim to the persister. An error of one
// ends the attempt: see attempt.fail.
var steps = []step{
	{"wait for its slots", phaseClaimed, (*attempt).takeSlots},
	{"be staged", phaseClaimed, (*attempt).stage},
	{"start its container", phaseClaimed, (*attempt).start},
	{"run", phaseStarted, (*attempt).run},
	{"be inspected", phaseStarted, (*attempt).inspect},
	{"hand its files over", phaseListed, (*attempt).handOver},
}

// takeSlots waits for the rest of what a heavy action takes. Meanwhile nothing
// else is asked for in its pool.
func (a *attempt) takeSlots() error {
	defer close(a.fitted)
	action := &a.entry.Action
	r := a.w.rooms[action.Pool]
	if err := r.fit(a.ctx, action); err != nil {
		a.w.occupy(r, -r.pull())
		return err
	}
	a.occupy(r.weight(action), r.pull())
	return nil
}

// stage gets the image and lays out the workspace.
func (a *attempt) stage() error {
	a.report(messages.StagePreparing, "", "")
	action := &a.entry.Action
	env, err := a.w.environment(action)
	if err != nil {
		return err
	}
	// The engine looks for the image meanwhile. What is said of two faults is the
	// image's.
	image := action.Image
	if action.Digest != "" {
		image += "@" + action.Digest // whatever the name stands for by now
	}
	look := make(chan error, 1)
	go func() {
		var err error
		a.entry.Digest, err = a.w.Runtime.Image(a.ctx, image)
		look <- err
	}()
	a.space, err = a.w.Staging.Prepare(a.ctx, action)
	if err := errors.Join(<-look, err); err != nil {
		return err
	}
	a.spec = Spec{
		Attempt: a.id, Workspace: action.Workspace, Action: action.Name, Image: image, Digest: a.entry.Digest, Args: action.Args, Env: env,
		Dir: a.space.Mount, UID: a.w.cfg.UID, GID: a.w.cfg.GID, Limits: a.w.limits(action),
	}
	if action.Database {
		a.spec.Network = a.w.cfg.Network
		if hosts := a.w.cfg.Hosts; hosts != nil {
			a.spec.Network.Hosts = hosts(a.ctx)
		}
	}
	a.report(messages.StagePrepared, "", "")
	return nil
}

// start makes the container. The journal first: a container that it does not
// speak of would be swept. To leave must not break the start off: then nobody
// would know whether there is a container.
func (a *attempt) start() error {
	fault.At("worker.after-stage")
	a.entry.Given = sample(a.space.Given)
	if err := a.enter(phaseStarted); err != nil {
		return err
	}
	fault.At("worker.before-start")
	if err := a.ended(); err != nil {
		return err
	}
	box, err := a.w.Runtime.Start(context.WithoutCancel(a.life), a.spec)
	a.spec = Spec{} // it has secrets
	if err != nil {
		a.w.suspect() // it may have been made all the same
		return err
	}
	a.box = box
	fault.At("worker.after-start")
	return nil
}

// run follows the container to its end, and describes it.
func (a *attempt) run() error {
	a.report(messages.StageExecuting, "", "")
	logs, err := a.followLogs()
	if err != nil {
		return err
	}
	exit, end, err := a.waitForEnd()
	log, logErr := logs.finish(err == nil)
	if err := errors.Join(err, logErr); err != nil {
		return err
	}
	fault.At("worker.after-exit")
	a.report(messages.StageExecuted, "", "")
	if err := a.keepRecord(); err != nil {
		return err
	}
	action := &a.entry.Action
	a.entry.Files = &messages.Files{
		Job: action.Job, Attempt: action.Attempt, Backend: action.Backend, Workspace: action.Workspace, Worker: a.w.cfg.Name,
		Cancelled: end.stopped, TimedOut: end.timedOut, Reason: messages.Clip(end.reason),
		ExitCode: exit.Code, OOMKilled: exit.OOMKilled, Started: exit.Started, Finished: exit.Finished,
		ImageDigest: a.entry.Digest, Log: log, Given: a.entry.Given, Metrics: a.metrics,
	}
	return nil
}

// keepRecord writes the engine's record of the container beside the files.
func (a *attempt) keepRecord() error {
	record, err := a.box.Inspect(a.life)
	if err != nil {
		a.log.Warn().Err(err).Msg("container's record cannot be had")
		return nil // it says nothing that decides
	}
	if err := a.w.Staging.WriteFile(a.space, "container.json", record); err != nil {
		return fmt.Errorf("keep the container's record: %w", err)
	}
	return nil
}

// inspect lists what the attempt left: in the message, or beside the files if
// they are many. What a stopped attempt left counts for nothing. An attempt
// whose files cannot be listed by its own fault hands over its log alone.
func (a *attempt) inspect() error {
	files := a.entry.Files
	if files.Cancelled {
		return nil
	}
	a.space.Limit = listedLimit(a.w.limits(&a.entry.Action).Disk)
	listing, err := a.list()
	var stop *stopped
	var failure *messages.Failure
	switch {
	case errors.As(a.ended(), &stop):
		files.Cancelled, files.Reason = true, stop.reason
	case errors.As(err, &failure):
		files.Cancelled, files.Reason = true, failure.Detail
		a.entry.Refused = failure.Code
	case err != nil:
		return err
	default:
		files.Listing = listing
	}
	return nil
}

// listedLimit is how many bytes may be listed by an action that may write so
// many. A file with holes says that it is larger than what was written: to read
// it takes as long as its size says.
func listedLimit(disk int64) int64 {
	const factor = 4
	if disk > math.MaxInt64/factor {
		return math.MaxInt64
	}
	return disk * factor
}

func (a *attempt) list() (messages.Listing, error) {
	found, err := a.w.Staging.Inspect(a.ctx, a.space)
	if err != nil {
		return messages.Listing{}, err
	}
	listing, encoded, err := messages.NewListing(found)
	if err != nil {
		return messages.Listing{}, err
	}
	if listing.Stored {
		if err := a.w.Staging.WriteFile(a.space, "listing.jsonl", encoded); err != nil {
			return messages.Listing{}, fmt.Errorf("keep the listing: %w", err)
		}
	}
	return listing, nil
}

// handOver publishes what the attempt left, and frees its slots and its lease.
// The journal first: whoever takes over from here publishes the same again.
func (a *attempt) handOver() error {
	fault.At("worker.after-inspect")
	if err := a.enter(phaseListed); err != nil {
		return err
	}
	fault.At("worker.after-run-before-publish")
	files := a.entry.Files
	if err := a.publish(files); err != nil {
		return err
	}
	fault.At("worker.after-publish")
	a.handed = true
	a.free()
	switch {
	case a.entry.Refused != "":
		a.report(messages.StageRefused, a.entry.Refused, files.Reason)
	case files.Cancelled:
		a.report(messages.StageStopped, "", files.Reason)
	default:
		a.report(messages.StageFinalizing, "", files.Reason)
	}
	a.log.Info().Int("exit", files.ExitCode).Int("files", files.Listing.Count).Bool("stopped", files.Cancelled).Bool("timed_out", files.TimedOut).Msg("attempt ended")
	err := a.hold.release(a.life)
	fault.At("worker.after-release")
	return errors.Join(err, a.undo())
}

// maxGiven bounds the sample of what an attempt was given, in bytes.
const maxGiven = 64 << 10

// sample cuts a list of paths to what a message bears.
func sample(given []messages.Path) []messages.Path {
	size := 0
	for i, p := range given {
		if size += len(p); i == messages.MaxGiven || size > maxGiven {
			return given[:i]
		}
	}
	return given
}
