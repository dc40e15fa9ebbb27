package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/worker"
)

// maxStats bounds the engine's answer, in bytes.
const maxStats = 1 << 20

// Usage asks the engine for one sample, for which it does not wait.
func (b *box) Usage(ctx context.Context) (worker.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, b.r.cfg.Timeout)
	defer cancel()
	answer, err := b.r.cli.ContainerStatsOneShot(ctx, b.id)
	if err != nil {
		return worker.Usage{}, fmt.Errorf("ask what the container uses: %w", err)
	}
	defer answer.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxStats)).Decode(&s); err != nil {
		return worker.Usage{}, fmt.Errorf("read what the container uses: %w", err)
	}
	return usageOf(b.id, &s), nil
}

// usageOf takes the file cache that the kernel can drop off the memory, as
// `docker stats` does.
func usageOf(id string, s *container.StatsResponse) worker.Usage {
	memory := s.MemoryStats.Usage
	for _, name := range []string{"total_inactive_file", "inactive_file"} { // of cgroup v1, of v2
		if cache, ok := s.MemoryStats.Stats[name]; ok {
			memory -= min(cache, memory)
			break
		}
	}
	return worker.Usage{Container: id, CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), Memory: int64(memory)} //nolint:gosec // from the engine
}
