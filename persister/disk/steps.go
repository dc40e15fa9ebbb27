package disk

import (
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"runtime"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"sluice/messages"
)

// ahead is how many steps of a copy may wait to be hashed.
const ahead = 8

// maxHashers is in how many places a large file is hashed at a time, where as many
// processors are seen: a disk that has to seek is slower with each.
const maxHashers = 4

// A wanted file is what a copy has to be.
type wanted struct {
	messages.File
	marks   *messages.Milestones // nil if there are none that fit
	hashers int                  // parts to hash at a time, if there are milestones
}

func (d *draft) want(i int) wanted {
	w := wanted{File: d.files[i], hashers: min(runtime.NumCPU(), maxHashers)}
	if m := d.marks[w.Path]; m != nil && m.Fit(w.Size) {
		w.marks = m
	}
	return w
}

// readMarks reads the milestones that the worker left. Without them files are
// verified all the same, and only later.
func (d *draft) readMarks() {
	f, err := d.Open(messages.MilestonesFile)
	if err != nil {
		return
	}
	defer f.Close()
	d.marks = messages.ReadMilestones(f)
}

// A part of a file is hashed in one go: from one milestone to the next, or a
// step after the one before.
type part struct{ at, end int64 }

// inSteps does something to each step of a file, hashes another file, or the
// same, as far as that is done, and compares the digest with what is listed. If
// it is another, its milestones may be what is wrong: the caller has to look
// without them.
func inSteps(ctx context.Context, hashed *os.File, want wanted, do func(at, n int64) error) error {
	every, hashers := int64(step), 1
	if want.marks != nil {
		every, hashers = messages.MilestoneEvery, want.hashers
	}
	group, inner := errgroup.WithContext(ctx)
	done := make(chan part, ahead*step/every)
	group.Go(func() error {
		defer close(done)
		p := part{end: min(every, want.Size)}
		for at := int64(0); at < want.Size; at += step {
			if inner.Err() != nil {
				return inner.Err()
			}
			n := min(want.Size-at, step)
			if err := do(at, n); err != nil {
				return err
			}
			for ; p.at < p.end && p.end <= at+n; p = (part{p.end, min(p.end+every, want.Size)}) {
				select {
				case done <- p:
				case <-inner.Done():
					return inner.Err()
				}
			}
		}
		return nil
	})
	var verified atomic.Int64 // bytes
	for range hashers {
		group.Go(func() error { return want.follow(inner, hashed, done, &verified) })
	}
	err := group.Wait()
	if err == nil && (verified.Load() != want.Size || want.Size == 0) {
		return errContents // to say nothing against a file is not enough
	}
	return err
}

// follow hashes parts of a file as they are done, and counts what is verified.
// Without milestones one follower has to have them all.
func (w wanted) follow(ctx context.Context, f *os.File, done <-chan part, verified *atomic.Int64) error {
	sum := sha256.New()
	for {
		select {
		case p, more := <-done:
			if !more {
				return nil
			}
			if w.marks != nil {
				var err error
				if sum, err = w.marks.At(p.at); err != nil {
					return errContents // this Go has another sum: that of the whole will do
				}
			}
			if err := w.hash(ctx, sum, f, p); err != nil {
				return err
			}
			verified.Add(p.end - p.at)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hash adds a part to what comes before it, and compares where that leads.
func (w wanted) hash(ctx context.Context, sum hash.Hash, f *os.File, p part) error {
	size := p.end - p.at
	n, err := digest(ctx, sum, io.NewSectionReader(f, p.at, size), size)
	if err != nil {
		return fmt.Errorf("digest %s: %w", f.Name(), err)
	}
	holds := n == size
	switch {
	case p.end == w.Size:
		holds = holds && messages.FormatDigest(sum.Sum(nil)) == w.Digest
	case w.marks != nil:
		holds = holds && w.marks.Holds(p.end, sum)
	}
	if !holds {
		return errContents
	}
	return nil
}
