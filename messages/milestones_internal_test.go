package messages

import (
	"testing"

	"pgregory.net/rapid"
)

// TestMilestonesFew: a file has 256 at most, however large it is, and no fewer
// than it needs to.
func TestMilestonesFew(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int64Min(0).Draw(t, "size")
		s := NewSum(size)
		if s.every%milestoneEvery != 0 || s.count != between(size, s.every) || s.count > maxMilestones {
			t.Fatalf("%d milestones of a file of %d bytes, %d apart", s.count, size, s.every)
		}
		if s.every > milestoneEvery && between(size, s.every/2) <= maxMilestones {
			t.Fatalf("a file of %d bytes has milestones only each %d bytes", size, s.every)
		}
	})
}
