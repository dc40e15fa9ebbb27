package messages_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
)

const apart = messages.MilestoneEvery

// sumOf sums data that comes in pieces of any size.
func sumOf(t *testing.T, data []byte, pieces *rand.Rand) *messages.Sum {
	t.Helper()
	sum := messages.NewSum(int64(len(data)))
	for len(data) > 0 {
		n := min(len(data), 1+pieces.IntN(3*apart/2))
		if got, err := sum.Write(data[:n]); err != nil || got != n {
			t.Fatalf("Write of %d bytes = %d, %v", n, got, err)
		}
		data = data[n:]
	}
	return sum
}

// TestMilestones: whatever its size, a file's sum is SHA-256, and from each
// milestone on what is left of the file leads to the next one, and to its digest.
func TestMilestones(t *testing.T) {
	t.Parallel()
	all := make([]byte, 3*apart+7)
	rand.NewChaCha8([32]byte{}).Read(all) //nolint:errcheck // it has none
	pieces := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{0, 1, apart - 1, apart, apart + 1, 2 * apart, 2*apart + 1, len(all)} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			data := all[:size]
			sum := sumOf(t, data, pieces)
			want := messages.Digest(data)
			if diff := cmp.Diff(want, sum.Digest()); diff != "" {
				t.Fatalf("digest (-want +got):\n%s", diff)
			}
			marks := sum.Milestones("f")
			if size <= apart {
				if marks != nil {
					t.Errorf("a file of %d bytes has milestones", size)
				}
				return
			}
			if marks == nil || !marks.Fit(int64(size)) || len(marks.States) != (size-1)/apart*32 {
				t.Fatalf("the milestones do not fit: %+v", marks)
			}
			for at := 0; at < size; at += apart {
				from, err := marks.At(int64(at))
				if err != nil {
					t.Fatal(err)
				}
				end := min(at+apart, size)
				from.Write(data[at:end]) //nolint:errcheck // it never fails
				if end < size && !marks.Holds(int64(end), from) {
					t.Errorf("what comes from the milestone at %d does not lead to the next", at)
				}
				other, err := marks.At(int64(at))
				if err != nil {
					t.Fatal(err)
				}
				other.Write(append(bytes.Clone(data[at:end-1]), data[end-1]^1)) //nolint:errcheck // it never fails
				if end < size && marks.Holds(int64(end), other) {
					t.Errorf("other bytes than those behind %d lead to the next milestone", at)
				}
				from.Write(data[end:]) //nolint:errcheck // it never fails
				if got := messages.FormatDigest(from.Sum(nil)); got != want {
					t.Errorf("from the milestone at %d on the digest is %s, want %s", at, got, want)
				}
			}
		})
	}
}

// TestMilestonesFit: what cannot be a file's milestones is not used.
func TestMilestonesFit(t *testing.T) {
	t.Parallel()
	const size = 3*apart + 1
	for _, tc := range []struct {
		states int // bytes
		size   int64
		want   bool
	}{
		{3 * 32, size, true},
		{3 * 32, 4 * apart, true},
		{3 * 32, 4*apart + 1, false},
		{3 * 32, 3 * apart, false},
		{3*32 - 1, size, false},
		{3*32 + 1, size, false},
		{0, size, false},
		{32, apart + 1, true},
		{32, apart, false},
		{0, apart, false},
		{0, 1, false},
		{0, 0, false},
		{0, -1, false},
		{0, 1 << 62, false},
	} {
		m := &messages.Milestones{States: make([]byte, tc.states)}
		if got := m.Fit(tc.size); got != tc.want {
			t.Errorf("%d bytes of states fit a file of %d: %v, want %v", tc.states, tc.size, got, tc.want)
		}
	}
}

// TestMilestonesBounded: those of many files come to 2 MiB, of the largest first.
func TestMilestonesBounded(t *testing.T) {
	t.Parallel()
	var all []*messages.Milestones
	for i := range 1000 {
		all = append(all, &messages.Milestones{Path: messages.Path(fmt.Sprintf("output/%d\n\xff", i)), States: bytes.Repeat([]byte{byte(i)}, (i+1)*32)})
	}
	all = append(all, &messages.Milestones{Path: "too large", States: make([]byte, 2<<20)})
	data, err := messages.EncodeMilestones(all)
	if err != nil || len(data) > 2<<20 {
		t.Fatalf("the milestones of 1,001 files come to %d bytes, %v", len(data), err)
	}
	got := messages.ReadMilestones(bytes.NewReader(data))
	if len(got) < 40 {
		t.Errorf("those of %d are left, want some 50", len(got))
	}
	for i := range 40 {
		want := all[999-i]
		if diff := cmp.Diff(want, got[want.Path]); diff != "" {
			t.Errorf("read (-want +got):\n%s", diff)
		}
	}
}

// TestMilestonesWritten: workers and persisters of different versions agree on
// what lies in staging.
func TestMilestonesWritten(t *testing.T) {
	t.Parallel()
	const golden = `{"path":"output/zero.bin","states":"VvSXeHTeby9IYCY4O07S75/NUpe8ST8WGhd2BhFRPbQ5PtevXKQa1I46lsdi8170Ve/Ipmeva3O0YfjRkOJFgg=="}` + "\n" // of zeros; computed apart, from FIPS 180-4
	sum := messages.NewSum(2*apart + 1)
	if _, err := sum.Write(make([]byte, 2*apart+1)); err != nil {
		t.Fatal(err)
	}
	marks := sum.Milestones("output/zero.bin")
	data, err := messages.EncodeMilestones([]*messages.Milestones{marks})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(golden, string(data)); diff != "" {
		t.Errorf("encoded (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[messages.Path]*messages.Milestones{"output/zero.bin": marks}, messages.ReadMilestones(strings.NewReader(golden))); diff != "" {
		t.Errorf("read (-want +got):\n%s", diff)
	}
}

// FuzzMilestones: what somebody else wrote is used or left out, and never does harm.
func FuzzMilestones(f *testing.F) {
	good, err := messages.EncodeMilestones([]*messages.Milestones{{Path: "a", States: make([]byte, 64)}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, int64(2*apart+1))
	f.Add([]byte(`{"path":"a","states":""}`), int64(0))
	f.Add([]byte(`{"path":"a"}`), int64(1<<62))
	f.Add([]byte(`{"path":"a","states":"AAAA"}`), int64(-1))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		for _, m := range messages.ReadMilestones(bytes.NewReader(data)) {
			if !m.Fit(size) {
				continue
			}
			for at := int64(apart); at < size; at += apart {
				sum, err := m.At(at)
				if err != nil || !m.Holds(at, sum) {
					t.Fatalf("the milestone at %d does not stand where it is: %v", at, err)
				}
			}
		}
	})
}
