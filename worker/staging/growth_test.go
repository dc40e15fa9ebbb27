package staging_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/internal/needs"
	"sluice/messages"
)

// BenchmarkInspectGrowth: inspecting costs what the attempt left, whatever it
// was given: x-100 is the ratio of 100,000 files of code to 100, both with 200
// new files, in turns.
func BenchmarkInspectGrowth(b *testing.B) {
	var inspect [2]func() time.Duration
	for i, given := range []int{100, 100_000} {
		code := tree{}
		for n := range given {
			code[fmt.Sprintf("code/%d/%d", n%100, n)] = "given"
		}
		s := newSite(b, false, code)
		if !s.Overlay() {
			needs.Missing(b, "there are no overlays here: without them the listing before is compared, which grows")
		}
		w := s.prepare(b, newAction())
		left := tree{}
		for n := range 200 {
			left[fmt.Sprintf("output/%d.csv", n)] = "left"
		}
		left.write(b, w.Mount)
		inspect[i] = func() time.Duration {
			begun := time.Now()
			files, err := s.Inspect(b.Context(), w)
			if err != nil || len(files) != len(left) {
				b.Fatalf("Inspect: %d files, %v", len(files), err)
			}
			return time.Since(begun)
		}
	}
	var times [2][]time.Duration
	for b.Loop() {
		for i := range inspect {
			times[i] = append(times[i], inspect[i]())
		}
	}
	for i := range times {
		slices.Sort(times[i])
	}
	few, many := times[0][len(times[0])/2], times[1][len(times[1])/2]
	b.ReportMetric(many.Seconds()/few.Seconds(), "x-100")
}

// BenchmarkInspectLarge: x-bare is what inspecting an attempt takes that left four
// large files and 200 small ones, beside hashing the large ones two at a time.
func BenchmarkInspectLarge(b *testing.B) {
	s := newSite(b, false, tree{"code": "given"})
	w := s.prepare(b, newAction())
	left, large := tree{}, strings.Repeat("0123456789abcdef", 4<<20)
	for n := range 200 {
		left[fmt.Sprintf("output/%d.csv", n)] = "left"
	}
	for n := range 4 {
		left[fmt.Sprintf("output/large/%d.bin", n)] = large
	}
	left.write(b, w.Mount)
	data := []byte(large)
	var ours, bare []time.Duration
	for b.Loop() {
		begun := time.Now()
		var hashing sync.WaitGroup
		for range 2 {
			hashing.Go(func() { messages.Digest(data); messages.Digest(data) })
		}
		hashing.Wait()
		bare = append(bare, time.Since(begun))
		begun = time.Now()
		files, err := s.Inspect(b.Context(), w)
		if err != nil || len(files) != len(left) {
			b.Fatalf("Inspect: %d files, %v", len(files), err)
		}
		ours = append(ours, time.Since(begun))
	}
	slices.Sort(ours)
	slices.Sort(bare)
	b.ReportMetric(ours[len(ours)/2].Seconds()/bare[len(bare)/2].Seconds(), "x-bare")
}
