package persister

import (
	"encoding/json"
	"math"
	"slices"
	"strings"

	"sluice/messages"
)

// maxReason bounds a sentence of a worker, or of an error, in bytes.
const maxReason = 1000

// newResult fills a Result, within its bounds.
func newResult(f *messages.Files, m Matching, outputs []Output) *messages.Result {
	r := &messages.Result{
		ExitCode: f.ExitCode, OOMKilled: f.OOMKilled, TimedOut: f.TimedOut, Reason: clip(f.Reason), Started: f.Started, Finished: f.Finished,
		Worker: f.Worker, ImageDigest: f.ImageDigest, Files: len(outputs), LogBytes: f.Log.Bytes, Metrics: f.Metrics,
		Unmatched: slices.Clone(head(m.Unmatched, messages.MaxResultPatterns)), // fit changes them
		Leftover:  head(m.Leftover, messages.MaxResultFiles), Leftovers: len(m.Leftover),
		Refused: head(m.Refused, messages.MaxResultFiles), Refuseds: len(m.Refused),
		Raised: head(m.Raised, messages.MaxResultFiles), Raiseds: len(m.Raised),
	}
	for i := range outputs {
		o := &outputs[i]
		if r.Bytes += o.Size; r.Bytes < 0 {
			r.Bytes = math.MaxInt64
		}
		switch {
		case o.Shared():
			r.Moderate++
		case !o.Allowed():
			r.Withhelds++
			if len(r.Withheld) < messages.MaxResultFiles {
				r.Withheld = append(r.Withheld, messages.FileProblem{Path: o.Path, Reason: o.Reason})
			}
		}
	}
	fit(r)
	return r
}

// fit cuts lists of very long names until the result is small enough. What is
// cut stays counted, and one unmatched pattern is always left: its being there
// decides how the job ends.
func fit(r *messages.Result) {
	for limit := messages.MaxResultPatterns; limit > 0 && size(r) > messages.MaxResult; limit /= 2 {
		r.Leftover, r.Withheld = head(r.Leftover, limit/4), head(r.Withheld, limit/4)
		r.Refused, r.Raised = head(r.Refused, limit/4), head(r.Raised, limit/4)
		r.Unmatched = head(r.Unmatched, max(limit, 1))
		for i := range r.Unmatched {
			u := &r.Unmatched[i]
			u.Nearest = head(u.Nearest, limit/40)
			if len(u.Pattern) > messages.MaxPath { // longer than any path: it can match nothing
				u.Pattern = strings.ToValidUTF8(u.Pattern[:messages.MaxPath], "") + "…"
			}
		}
	}
}

// size returns the encoded size. A result always encodes.
func size(r *messages.Result) int {
	data, err := json.Marshal(r)
	if err != nil {
		return math.MaxInt
	}
	return len(data)
}

func head[T any](list []T, limit int) []T { return list[:min(len(list), limit):min(len(list), limit)] }

// clip bounds a sentence.
func clip(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "…"
}
