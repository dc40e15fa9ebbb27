package messages

import "math"

// Metrics is what an attempt's container used, sampled while it ran, under the
// reference's names and in its units (agent/metrics.py): processors in percent
// of one, memory in MiB, sums over seconds. An attempt that was over before the
// first sample has none.
type Metrics struct {
	CPUSample float64 `json:"cpu_sample"`
	CPUSum    float64 `json:"cpu_cumsum"`
	CPUMean   float64 `json:"cpu_mean"`
	CPUPeak   float64 `json:"cpu_peak"`
	MemSample float64 `json:"mem_mb_sample"`
	MemSum    float64 `json:"mem_mb_cumsum"`
	MemMean   float64 `json:"mem_mb_mean"`
	MemPeak   float64 `json:"mem_mb_peak"`
	Container string  `json:"container_id"`
}

// Add counts a sample that stands for so many seconds, of so many since the
// container began.
func (m *Metrics) Add(cpu, mem, seconds, runtime float64) {
	m.CPUSample, m.MemSample = cpu, mem
	m.CPUSum += seconds * cpu
	m.MemSum += seconds * mem
	m.CPUMean, m.MemMean = m.CPUSum/runtime, m.MemSum/runtime
	m.CPUPeak, m.MemPeak = max(m.CPUPeak, cpu), max(m.MemPeak, mem)
}

// Validate reports every rule that metrics break.
func (m *Metrics) Validate() error {
	var p Problems
	for _, v := range []float64{m.CPUSample, m.CPUSum, m.CPUMean, m.CPUPeak, m.MemSample, m.MemSum, m.MemMean, m.MemPeak} {
		if !(v >= 0) || math.IsInf(v, 1) {
			p.addf("a metric is %v", v)
			break
		}
	}
	if len(m.Container) > 200 || hasControl(m.Container) {
		p.addf("the container's id is too long, or has control characters")
	}
	return p.Err()
}
