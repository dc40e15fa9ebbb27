package staging_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/internal/needs"
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
