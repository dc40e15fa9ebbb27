package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sync/errgroup"

	"sluice/messages"
	"sluice/persister"
)

// A late is copies that go on while the small files are checked, shared and
// written to the disk: to hash a large file takes long, and nothing but
// the commit needs its digest.
type late struct {
	stop context.CancelFunc
	over chan struct{}
	err  error // ours; once it is over
}

// end breaks the copies off, and waits until nothing is written any more.
func (l *late) end() {
	if l != nil {
		l.stop()
		<-l.over
	}
}

// Copy copies files out of staging, or with Rename leaves them there until the
// journal moves them, and verifies each against its listing.
func (d *draft) Copy(ctx context.Context, files []messages.File) error {
	d.files, d.staged, d.reasons = files, make([]bool, len(files)), make([]string, len(files))
	// Largest first: the last one must not begin when all others are done.
	order := make([]int, len(files))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(files[b].Size, files[a].Size) })
	large := 0
	for large < len(order) && files[order[large]].Size > small {
		large++
	}
	if large > 0 {
		d.readMarks()
	}
	inner, stop := context.WithCancel(ctx)
	l := &late{stop: stop, over: make(chan struct{})}
	d.late = l
	go func() {
		defer close(l.over)
		l.err = d.copyAll(inner, order[:large])
	}()
	if err := d.copyAll(ctx, order[large:]); err != nil {
		return fmt.Errorf("copy the files of %s: %w", d.at, err)
	}
	d.s.fault("persister.after-copy")
	if slices.ContainsFunc(order[large:], func(i int) bool { return d.reasons[i] != "" }) {
		return d.verified() // which says all that is wrong
	}
	return nil
}

// copyAll copies some of the files. An error is ours.
func (d *draft) copyAll(ctx context.Context, which []int) error {
	return d.each(ctx, len(which), func(ctx context.Context, n int) error {
		i := which[n]
		err := d.copyOne(ctx, i)
		d.s.fault("persister.between-copies")
		var bad *differs
		if errors.As(err, &bad) {
			d.reasons[i] = bad.how
			return nil
		}
		return err
	})
}

// each runs do for each number below n, a few at once, until one fails.
func (d *draft) each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	group, inner := errgroup.WithContext(ctx)
	group.SetLimit(d.s.cfg.Workers)
	for i := range n {
		if inner.Err() != nil {
			break
		}
		group.Go(func() error { return do(inner, i) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ctx.Err()
}

// verified waits until every file is copied and verified.
func (d *draft) verified() error {
	<-d.late.over
	if d.late.err != nil {
		return fmt.Errorf("copy the files of %s: %w", d.at, d.late.err)
	}
	var problems []messages.FileProblem
	for i, reason := range d.reasons {
		if reason != "" {
			problems = append(problems, messages.FileProblem{Path: d.files[i].Path, Reason: reason})
		}
	}
	if len(problems) > 0 {
		return &persister.Differs{Problems: problems}
	}
	return nil
}

// flush has the disk write many small files while it is idle: large ones are
// still being verified, and the barrier then finds little left to do.
func (d *draft) flush() error {
	select {
	case <-d.late.over:
		return nil
	default:
	}
	if len(d.files) <= fewFiles {
		return nil
	}
	return d.syncAll() // its error is told once, so it is ours
}

// Copied opens what Copy copied.
func (d *draft) Copied(i int) (io.ReadCloser, error) { return d.copied(i) }

func (d *draft) copied(i int) (*os.File, error) {
	if d.files[i].Size > small {
		if err := d.verified(); err != nil {
			return nil, err
		}
	}
	dir, name := d.dir, highName(i)
	if d.staged[i] {
		dir, name = d.from, string(d.files[i].Path)
	}
	f, _, err := openRegular(dir, name)
	return f, err
}
