package bench

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A Machine is where it was measured.
type Machine struct {
	System   string  `json:"system"`
	CPU      string  `json:"cpu"`
	CPUs     int     `json:"cpus"`
	MemoryGB float64 `json:"memory_gib"`
	Files    string  `json:"file_system"` // of the scratch folder
	Engine   string  `json:"engine,omitempty"`
	Storage  string  `json:"engine_storage,omitempty"`
	Go       string  `json:"go"`
	Version  string  `json:"sluice"`
	Stolen   float64 `json:"stolen_percent"` // of the processors' time, while it was measured: a host gave it to others
}

func (m Machine) lines() []string {
	engine := m.Engine
	if engine == "" {
		engine = "not used"
	}
	lines := []string{
		fmt.Sprintf("machine: %d × %s, %.0f GiB, %s", m.CPUs, m.CPU, m.MemoryGB, m.System),
		fmt.Sprintf("files on %s; engine %s %s; %s, sluice %s", m.Files, engine, m.Storage, m.Go, m.Version),
	}
	const much = 5
	if m.Stolen >= much {
		lines = append(lines, fmt.Sprintf("the host gave %.0f %% of the processors' time to others meanwhile: rounds differ, and few of them say little", m.Stolen))
	}
	return lines
}

// ticks are the kernel's counters of the processors' time (proc_stat(5)): user,
// nice, system, idle, iowait, irq, softirq, steal, and two that user and nice have.
func ticks() []float64 {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	line, _, _ := strings.Cut(string(data), "\n")
	var all []float64
	for _, word := range strings.Fields(strings.TrimPrefix(line, "cpu")) {
		n, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return nil
		}
		all = append(all, n)
	}
	return all
}

// stolen is what part of the time between two looks a host gave to others, in
// percent.
func stolen(before, after []float64) float64 {
	const steal = 7
	if len(before) <= steal || len(after) <= steal {
		return 0
	}
	total := 0.0
	for i := range steal + 1 {
		total += after[i] - before[i]
	}
	if total <= 0 {
		return 0
	}
	return 100 * (after[steal] - before[steal]) / total
}

// machine looks at this one. What it does not find is unknown.
func (b *Bench) machine() Machine {
	m := Machine{System: runtime.GOOS, CPU: "unknown CPU", CPUs: runtime.NumCPU(), Files: fileSystem(b.scratch), Go: runtime.Version(), Version: b.Version}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.System = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	if v := field("/proc/cpuinfo", "model name"); v != "" {
		m.CPU = v
	}
	if kb, err := strconv.ParseFloat(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 64); err == nil {
		m.MemoryGB = kb / (1 << 20)
	}
	return m
}

// field returns the first value of a name in a file of "name: value" lines.
func field(path, name string) string {
	f, err := os.Open(path) //nolint:gosec // of /proc
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if key, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// fileSystem names the kind of file system that a folder is on.
func fileSystem(dir string) string {
	kinds := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", 0x2fc12fc1: "zfs", 0x65735546: "fuse",
	}
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "an unknown file system"
	}
	if kind, ok := kinds[int64(st.Type)]; ok { //nolint:unconvert // int32 on some machines
		return kind
	}
	return fmt.Sprintf("file system %#x", st.Type)
}
