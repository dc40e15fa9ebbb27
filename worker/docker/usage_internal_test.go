package docker

import (
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/worker"
)

// TestUsageOf: memory is without the file cache, by whichever name the kernel
// has for it, and never below nothing.
func TestUsageOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		stats map[string]uint64
		want  int64
	}{
		{"cgroup v1", map[string]uint64{"total_inactive_file": 30, "inactive_file": 7}, 70},
		{"cgroup v2", map[string]uint64{"inactive_file": 40}, 60},
		{"neither", nil, 100},
		{"more than there is", map[string]uint64{"inactive_file": 400}, 0},
	} {
		s := &container.StatsResponse{}
		s.CPUStats.CPUUsage.TotalUsage, s.MemoryStats.Usage, s.MemoryStats.Stats = 5e9, 100, tc.stats
		if got, want := usageOf("id", s), (worker.Usage{Container: "id", CPU: 5 * time.Second, Memory: tc.want}); got != want {
			t.Errorf("%s: usageOf = %+v, want %+v", tc.name, got, want)
		}
	}
}
