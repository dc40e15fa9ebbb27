package planner

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"sluice/messages"
)

// A Candidate is a ready job: all that it waits for has succeeded.
type Candidate struct {
	Job       messages.JobID
	Workspace string
	Pool      string
	Database  bool
	Weight    float64 // slots
	Created   time.Time
}

// before orders the candidates of a workspace: database jobs, then age.
func (c *Candidate) before(d *Candidate) int {
	if c.Database != d.Database {
		if c.Database {
			return -1
		}
		return 1
	}
	return cmp.Or(c.Created.Compare(d.Created), cmp.Compare(c.Job, d.Job))
}

// A Pool is what a pool of a backend can take now.
type Pool struct {
	Workers  int     // that live and take actions
	Total    float64 // their slots
	Largest  float64 // slots of the largest
	InFlight float64 // slots' worth of attempts that are dispatched or run
	Limit    float64 // slots on the whole backend, however many workers; 0 for none
}

// allowed returns how much may be in flight at once.
func (p *Pool) allowed(window float64) float64 {
	if p.Limit > 0 {
		return min(window*p.Total, p.Limit)
	}
	return window * p.Total
}

// fits reports whether a job of that weight could ever run in the pool as it
// is now.
func (p *Pool) fits(weight float64) bool {
	return weight <= p.Largest+tiny && (p.Limit == 0 || weight <= p.Limit+tiny)
}

// tiny makes up for sums of weights such as 0.1.
const tiny = 1e-9

// A Backlog is what Admit chooses from: the ready jobs of one backend.
type Backlog struct {
	lanes map[laneKey][]*Candidate // each in order
}

type laneKey struct{ workspace, pool string }

// Add puts a candidate in its place.
func (b *Backlog) Add(c *Candidate) {
	if b.lanes == nil {
		b.lanes = map[laneKey][]*Candidate{}
	}
	key := laneKey{c.Workspace, c.Pool}
	lane := b.lanes[key]
	i, _ := slices.BinarySearchFunc(lane, c, (*Candidate).before)
	b.lanes[key] = slices.Insert(lane, i, c)
}

// Remove takes a candidate out, if it is there.
func (b *Backlog) Remove(c *Candidate) {
	key := laneKey{c.Workspace, c.Pool}
	lane := b.lanes[key]
	i, found := slices.BinarySearchFunc(lane, c, (*Candidate).before)
	switch {
	case !found:
	case len(lane) == 1:
		delete(b.lanes, key)
	case i == 0:
		lane[0] = nil
		b.lanes[key] = lane[1:]
	default:
		b.lanes[key] = slices.Delete(lane, i, i+1)
	}
}

// Len returns the number of candidates.
func (b *Backlog) Len() int {
	n := 0
	for _, lane := range b.lanes {
		n += len(lane)
	}
	return n
}

// Admit chooses which ready jobs of a backend start now, in this order. The
// next is always of the workspace with the lowest weight of jobs in flight,
// there a database job before others, then the oldest; each start changes the
// weights. A job that is next in its pool and does not fit keeps the room that
// comes free for itself: nothing of that pool starts before it. One that could
// not run on any worker as they are now, or not under the pool's limit, is
// passed over.
//
// It is pure: inFlight has the weights of the workspaces' jobs in flight, and
// no argument is changed. Its cost hardly depends on the length of the backlog.
func Admit(b *Backlog, pools map[string]Pool, inFlight map[string]float64, window float64) []*Candidate {
	rooms := make(map[string]*room, len(pools))
	for name, pool := range pools {
		left := pool.allowed(window) - pool.InFlight
		rooms[name] = &room{Pool: pool, left: left, closed: left <= tiny}
	}
	closed := func(pool string) bool { return rooms[pool] == nil || rooms[pool].closed }
	var start []*Candidate
	w := newWalk(b, inFlight, closed)
	for c := w.next(); c != nil; c = w.next() {
		if rooms[c.Pool].take(c.Weight) {
			start = append(start, c)
			w.weights[c.Workspace] += c.Weight
		}
	}
	return start
}

// Order returns the candidates of each pool in the order in which they would
// start if there were room.
func Order(b *Backlog, inFlight map[string]float64) map[string][]*Candidate {
	lines := map[string][]*Candidate{}
	w := newWalk(b, inFlight, func(string) bool { return false })
	for c := w.next(); c != nil; c = w.next() {
		lines[c.Pool] = append(lines[c.Pool], c)
		w.weights[c.Workspace] += c.Weight
	}
	return lines
}

// A room is a pool while Admit fills it.
type room struct {
	Pool
	left   float64
	closed bool // full, or kept free for the job that is next
}

// take gives the job its slots, or reports that it has to wait.
func (r *room) take(weight float64) bool {
	switch {
	case !r.fits(weight):
		return false
	case weight > r.left+tiny:
		r.closed = true
		return false
	}
	r.left -= weight
	r.closed = r.left <= tiny
	return true
}

// A walk goes through the lanes of a backlog in the fair order. Whoever walks
// adds to the weights; they only grow.
type walk struct {
	heads   heads
	weights map[string]float64
	closed  func(pool string) bool
}

func newWalk(b *Backlog, inFlight map[string]float64, closed func(pool string) bool) *walk {
	w := &walk{weights: make(map[string]float64, len(inFlight)), closed: closed}
	for workspace, weight := range inFlight {
		w.weights[workspace] = weight
	}
	for key, lane := range b.lanes {
		if !closed(key.pool) {
			w.heads = append(w.heads, head{lane: lane, weight: w.weights[key.workspace]})
		}
	}
	heap.Init(&w.heads)
	return w
}

// next returns the candidate that is next in a pool that is not closed, or nil.
func (w *walk) next() *Candidate {
	for len(w.heads) > 0 {
		top := &w.heads[0]
		c := top.lane[0]
		switch now := w.weights[c.Workspace]; {
		case w.closed(c.Pool):
			heap.Pop(&w.heads)
			continue
		case top.weight != now: // its place in the heap is out of date
			top.weight = now
			heap.Fix(&w.heads, 0)
			continue
		}
		if top.lane = top.lane[1:]; len(top.lane) == 0 {
			heap.Pop(&w.heads)
		} else {
			heap.Fix(&w.heads, 0)
		}
		return c
	}
	return nil
}

// A head is the rest of a lane, with its workspace's weight at the time when it
// found its place in the heap.
type head struct {
	lane   []*Candidate
	weight float64
}

type heads []head

func (h heads) Len() int      { return len(h) }
func (h heads) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h heads) Less(i, j int) bool {
	if h[i].weight != h[j].weight {
		return h[i].weight < h[j].weight
	}
	return h[i].lane[0].before(h[j].lane[0]) < 0
}
func (h *heads) Push(x any) { *h = append(*h, x.(head)) }
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = head{}
	*h = (*h)[:len(*h)-1]
	return last
}
