package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
)

// Names of what lies beside a job's outputs.
const (
	metadataDir   = "metadata"
	manifestFile  = "manifest.json"
	logFile       = "logs.txt"
	metadataFile  = "metadata.json"
	containerFile = "container.json"
)

// Bounds of what is read whole or copied without a listed size, in bytes.
const (
	maxManifest  = 1 << 30
	maxLog       = 4 << 30
	maxContainer = 16 << 20
)

// Publish makes a change visible; see the package's description.
func (d *draft) Publish(ctx context.Context, p *persister.Publication) error {
	moves, err := d.record(p.Record)
	if err != nil {
		return fmt.Errorf("store the record of %s: %w", d.at, err)
	}
	if !p.Aside {
		if err := d.share(ctx, p.Outputs); err != nil {
			return fmt.Errorf("copy the moderately sensitive files of %s: %w", d.at, err)
		}
	}
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.verified(); err != nil {
		return err
	}
	lock, err := d.s.lockWorkspace(d.at.Workspace)
	if err != nil {
		return err
	}
	err = d.publish(ctx, p, moves)
	return errors.Join(err, lock.release())
}

// publish is the part of Publish for which nothing else may change the
// workspace.
func (d *draft) publish(ctx context.Context, p *persister.Publication, record []move) error {
	if err := d.s.finishOpen(ctx, d.at.Workspace, p.Committed); err != nil {
		return err
	}
	steps, err := d.plan(p, record)
	if err != nil {
		return err
	}
	if err := d.writePlan(steps); err != nil {
		return err
	}
	if err := d.barrier(); err != nil {
		return err
	}
	d.s.fault("persister.before-commit")
	d.kept = true // until the register has said no
	if err := p.Commit(ctx); err != nil {
		d.kept = !errors.Is(err, persister.ErrLost)
		return err
	}
	d.s.fault("persister.after-commit")
	return d.s.carryOut(d.name, steps)
}

// share copies the outputs that the moderately sensitive tier gets too.
func (d *draft) share(ctx context.Context, outputs []persister.Output) error {
	if d.medium == nil {
		return nil
	}
	err := d.each(ctx, len(outputs), func(ctx context.Context, i int) error {
		if !outputs[i].Shared() {
			return nil
		}
		src, err := d.copied(i)
		if err != nil {
			return err
		}
		defer src.Close()
		return d.copyTo(ctx, d.medium, mediumName(i), src, d.want(i))
	})
	d.s.fault("persister.after-share")
	return err
}

// record writes the attempt's record to temporary names, and returns where it
// belongs.
func (d *draft) record(r *persister.Record) ([]move, error) {
	folder := path.Join(messages.RecordMonth(d.at.Created), string(d.at.Job), strconv.Itoa(d.at.Number))
	moves := []move{
		{Tree: logsTree, From: logFile, To: messages.Path(path.Join(folder, logFile))},
		{Tree: logsTree, From: metadataFile, To: messages.Path(path.Join(folder, metadataFile))},
	}
	if err := d.writeLog(d.dir, logFile, r); err != nil {
		return nil, err
	}
	if err := write(d.dir, metadataFile, d.s.cfg, r.Metadata); err != nil {
		return nil, err
	}
	if r.Container != nil {
		if err := write(d.dir, containerFile, d.s.cfg, r.Container); err != nil {
			return nil, err
		}
		moves = append(moves, move{Tree: logsTree, From: containerFile, To: messages.Path(path.Join(folder, containerFile))})
	}
	return moves, nil
}

// writeLog copies the attempt's log and ends it with the record's footer. A
// log that is missing costs nobody an output.
func (d *draft) writeLog(dir *os.File, name string, r *persister.Record) error {
	dst, err := create(dir, name)
	if err != nil {
		return err
	}
	defer dst.Close()
	src, err := d.Open(persister.StagedLog)
	switch {
	case err == nil:
		_, err = io.Copy(dst, io.LimitReader(src, maxLog))
		err = errors.Join(err, src.Close())
	case errors.Is(err, fs.ErrNotExist):
		_, err = fmt.Fprintf(dst, "(the log of this attempt, of %d bytes, is missing from staging)\n", r.LogSize)
	}
	if err == nil {
		_, err = dst.Write(r.Footer)
	}
	if err == nil {
		err = own(dst, d.cfgOf(dir), uint32(d.s.cfg.FileMode.Perm()))
	}
	if err != nil {
		return fmt.Errorf("write log: %w", explain(err, dir))
	}
	return nil
}

// plan works out every step of the change, and writes the files that it makes.
func (d *draft) plan(p *persister.Publication, record []move) (*plan, error) {
	trees, err := d.s.openTrees(d.at.Workspace)
	if err != nil {
		return nil, err
	}
	defer trees.Close()
	if err := trees.check(d); err != nil {
		return nil, err
	}
	var steps *plan
	if p.Aside {
		steps, err = d.planAside(p, record)
	} else {
		steps, err = d.planOutputs(p, record, trees)
	}
	if err == nil {
		err = d.s.sound(steps, trees)
	}
	return steps, err
}

// planOutputs works out the steps that bring outputs into their workspace.
func (d *draft) planOutputs(p *persister.Publication, record []move, trees *trees) (*plan, error) {
	old, err := trees.manifest(d.at.Workspace, &d.s.manifests)
	if err != nil {
		return nil, err
	}
	way, err := trees.inTheWay(p.Outputs)
	if err != nil {
		return nil, err
	}
	arranged, err := p.Arrange(old, way)
	if err != nil {
		return nil, err
	}
	steps := &plan{Schema: planSchema, Attempt: d.at, RemoveHigh: arranged.RemoveHigh}
	for i := range p.Outputs {
		m, err := d.output(i, highTree, p.Outputs[i].Path)
		if err != nil {
			return nil, err
		}
		steps.Moves = append(steps.Moves, m)
	}
	if trees.medium != nil {
		if err := d.planMedium(p, arranged, trees.medium, steps); err != nil {
			return nil, err
		}
	}
	steps.Moves = append(steps.Moves, record...)
	if err := d.planLast(p, arranged, steps); err != nil {
		return nil, err
	}
	return steps, nil
}

// planMedium adds the steps in the moderately sensitive tier.
func (d *draft) planMedium(p *persister.Publication, arranged *persister.Arrangement, medium *tree, steps *plan) error {
	for _, gone := range arranged.RemoveMedium {
		st, there, err := medium.lstat(gone)
		if err != nil {
			return err
		}
		if there && st.Mode&unix.S_IFMT != unix.S_IFDIR {
			steps.RemoveMedium = append(steps.RemoveMedium, gone)
		}
	}
	for i := range p.Outputs {
		if !p.Outputs[i].Shared() {
			continue
		}
		m, err := d.output(i, mediumTree, p.Outputs[i].Path)
		if err != nil {
			return err
		}
		steps.Moves = append(steps.Moves, m)
	}
	for i, m := range arranged.Messages {
		if len(m.Path) >= messages.MaxPath {
			continue // there is no room for a message; the manifest has the reason
		}
		inTheWay, err := medium.inTheWay([]messages.Path{m.Path})
		if err != nil {
			return err
		}
		if slices.ContainsFunc(inTheWay, func(p messages.Path) bool { return !slices.Contains(arranged.RemoveMedium, p) }) {
			continue // likewise, as a folder has its name
		}
		name := "t" + strconv.Itoa(i)
		if err := write(d.medium, name, d.cfgOf(d.medium), []byte(m.Text)); err != nil {
			return err
		}
		steps.Moves = append(steps.Moves, move{Tree: mediumTree, From: messages.Path(name), To: m.Path})
	}
	return nil
}

// planLast adds the action's log and the manifests: first the job's, then the
// workspace's.
func (d *draft) planLast(p *persister.Publication, arranged *persister.Arrangement, steps *plan) error {
	data, err := arranged.Manifest.Encode()
	if err != nil {
		return err
	}
	if len(data) > maxManifest {
		return &persister.Blocked{Path: manifestFile, Why: fmt.Sprintf("it would have %d bytes; the limit is %d", len(data), maxManifest)}
	}
	d.s.manifests.put(d.at.Workspace, data, arranged.Manifest)
	if err := d.planLogs(p, steps); err != nil {
		return err
	}
	const workspaceManifest = "manifest.json"
	for _, tier := range d.tiers() {
		if err := write(tier.dir, workspaceManifest, d.cfgOf(tier.dir), data); err != nil {
			return err
		}
		steps.Last = append(steps.Last, move{Tree: tier.tree, From: workspaceManifest, To: messages.Path(path.Join(metadataDir, manifestFile))})
	}
	return nil
}

// planLogs adds the job's manifest, and the action's log in each tier.
func (d *draft) planLogs(p *persister.Publication, steps *plan) error {
	const jobManifest, actionLog = "job-manifest.json", "action.log"
	if len(p.Manifest) > messages.MaxManifest {
		return &persister.Blocked{Path: manifestFile, Why: fmt.Sprintf("the job's would have %d bytes; the limit is %d", len(p.Manifest), messages.MaxManifest)}
	}
	if err := write(d.dir, jobManifest, d.s.cfg, p.Manifest); err != nil {
		return err
	}
	steps.Moves = append(steps.Moves, move{Tree: logsTree, From: jobManifest, To: messages.Path(jobManifestPath(d.at))})
	for _, tier := range d.tiers() {
		if err := d.writeLog(tier.dir, actionLog, p.Record); err != nil {
			return err
		}
		steps.Moves = append(steps.Moves, move{Tree: tier.tree, From: actionLog, To: messages.Path(path.Join(metadataDir, d.at.Action+".log"))})
	}
	return nil
}

// A tier is one of a plan's trees, and the draft's folder of what goes there.
type tier struct {
	tree string
	dir  *os.File
}

// tiers are those that there are, the moderately sensitive one first.
func (d *draft) tiers() []tier {
	list := []tier{{highTree, d.dir}}
	if d.medium != nil {
		list = []tier{{mediumTree, d.medium}, {highTree, d.dir}}
	}
	return list
}

// jobManifestPath is where a job's manifest lies among the records.
func jobManifestPath(a persister.Attempt) string {
	return path.Join(messages.RecordMonth(a.Created), string(a.Job), manifestFile)
}

// Keep stores the attempt's record alone.
func (d *draft) Keep(_ context.Context, r *persister.Record) error {
	moves, err := d.record(r)
	if err == nil {
		err = d.barrier()
	}
	if err == nil {
		err = d.s.keep(d.name, moves)
	}
	if err != nil {
		return fmt.Errorf("store the record of %s: %w", d.at, err)
	}
	return nil
}
