package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/messages"
)

// TestMetrics: what a job used is told under the reference's names if the
// backend's setting discloses it; otherwise there is an empty object.
func TestMetrics(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]*messages.Disclosed{
		`"metrics":{}`: nil,
		`"metrics":{"cpu_sample":0,"cpu_cumsum":0,"cpu_mean":0,"cpu_peak":50,"mem_mb_sample":0,"mem_mb_cumsum":0,"mem_mb_mean":0,"mem_mb_peak":0,"container_id":"c"}`: {
			Metrics: &messages.Metrics{CPUPeak: 50, Container: "c"},
		},
	} {
		data, err := json.Marshal(tell(name{}, &messages.JobOutcome{Disclosed: d}))
		if err != nil || !strings.Contains(string(data), want) {
			t.Errorf("got %s, %v, want %s", data, err, want)
		}
	}
}
