package bench

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// A Report is what was measured. Its JSON is an interface (docs/performance.md).
type Report struct {
	Began   time.Time `json:"began"`
	Machine Machine   `json:"machine"`
	Rows    []Row     `json:"rows"`
}

// A Row is one figure of ours beside one of a baseline.
type Row struct {
	Workload string  `json:"workload"`
	What     string  `json:"what"`
	Unit     string  `json:"unit"` // "ms", "jobs/s", "MiB", "% of a core"
	Ours     Sample  `json:"ours"`
	Against  string  `json:"against,omitempty"` // the baseline; empty where there is none
	Baseline *Sample `json:"baseline,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"` // of the medians, ours over the baseline's
	Aim      string  `json:"aim,omitempty"`   // what the ratio should be, such as "<= 1.1"
}

// A Sample is what several rounds gave. Worst is the value that one round in
// twenty is beyond: above for times, below for rates.
type Sample struct {
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	Count int     `json:"count"`
}

// times makes a sample of durations, in milliseconds.
func times(list []time.Duration) Sample {
	values := make([]float64, len(list))
	for i, d := range list {
		values[i] = float64(d) / float64(time.Millisecond)
	}
	return sample(values, false)
}

// sample makes a sample of values; where more is better the worse end is below.
func sample(values []float64, moreIsBetter bool) Sample {
	if len(values) == 0 {
		return Sample{}
	}
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	if moreIsBetter {
		slices.Reverse(sorted)
	}
	at := func(q float64) float64 { return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)] }
	middle := at(0.5)
	if n := len(sorted); n%2 == 0 {
		middle = (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return Sample{P50: middle, P95: at(0.95), Count: len(values)}
}

// add takes a row into the report.
func (b *Bench) add(what, unit string, ours Sample, against string, baseline Sample, aim string) {
	r := Row{Workload: b.current, What: what, Unit: unit, Ours: ours, Against: against, Aim: aim}
	if against != "" {
		r.Baseline = &baseline
		if baseline.P50 != 0 {
			r.Ratio = ours.P50 / baseline.P50
		}
	}
	b.report.Rows = append(b.report.Rows, r)
}

// Print writes the report as a table for people.
func (r Report) Print(w io.Writer) error {
	for _, line := range r.Machine.lines() {
		fmt.Fprintln(w, line)
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\twhat\tunit\tours p50 / p95\tagainst\tp50 / p95\tratio\taim")
	for _, row := range r.Rows {
		base, ratio := "", ""
		if row.Baseline != nil {
			base, ratio = row.Baseline.String(), number(row.Ratio)
		}
		fmt.Fprintln(t, strings.Join([]string{row.Workload, row.What, row.Unit, row.Ours.String(), row.Against, base, ratio, row.Aim}, "\t"))
	}
	return t.Flush()
}

// String is p50 / p95, or the one value there is.
func (s Sample) String() string {
	if s.Count == 1 {
		return number(s.P50)
	}
	return number(s.P50) + " / " + number(s.P95)
}

// number prints three digits that mean something.
func number(v float64) string {
	switch {
	case v >= 100 || v <= -100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10 || v <= -10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}
