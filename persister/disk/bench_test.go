package disk_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/messages"
	"sluice/persister"
	"sluice/persister/disk"
	"sluice/persister/storetest"
)

// BenchmarkPersist persists an attempt as W3 has it, 1,000 files of 4 KiB in ten
// folders and one of 256 MiB, half of them for both tiers, and 20,000 small
// files. Each run is paired with a bare loop over the same files that copies
// each once, hashes it in the same pass, and syncs the file system once. SLUICE_BENCH_DIR
// is where (a file system with reflinks, say).
func BenchmarkPersist(b *testing.B) {
	for _, w := range []struct {
		name  string
		small int
		large int64
	}{{"W3", 1000, 256 << 20}, {"1000small", 1000, 0}, {"20000small", 20_000, 0}} {
		b.Run(w.name, func(b *testing.B) { benchPersist(b, w.small, w.large) })
	}
}

func benchPersist(b *testing.B, small int, large int64) {
	// All of it goes at the end: an ext4 without a journal is slow to make files
	// for seconds after many were removed.
	base, err := os.MkdirTemp(os.Getenv("SLUICE_BENCH_DIR"), "persist-")
	if err != nil {
		b.Fatal(err)
	}
	defer os.RemoveAll(base)
	var ratios, times []float64
	for b.Loop() {
		root := filepath.Join(base, strconv.Itoa(len(ratios)))
		if err := os.Mkdir(root, 0o755); err != nil {
			b.Fatal(err)
		}
		cfg := disk.Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), filepath.Join(root, "medium"))
		job := storetest.NewJob("ws", "a", "r1", medium, "low/*/*.txt", high, "high/*/*.txt", high, "large.bin")
		files := stageBench(b, cfg.Staging, job, small, large)
		begun := time.Now()
		bareLoop(b, filepath.Join(storetest.Dir(cfg.Staging, job, 1), "files"), filepath.Join(root, "bare"), files)
		bare := time.Since(begun)
		message, err := storetest.Message(cfg.Staging, job, 1, files, benchLog(job))
		if err != nil {
			b.Fatal(err)
		}
		begun = time.Now()
		if err := deliver(root, cfg, job, message, 1); err != nil {
			b.Fatal(err)
		}
		ours := time.Since(begun)
		if _, err := os.Stat(filepath.Join(cfg.Medium, "ws/low/d4/4.txt")); err != nil {
			b.Fatal(err)
		}
		ratios, times = append(ratios, ours.Seconds()/bare.Seconds()), append(times, ours.Seconds())
	}
	slices.Sort(ratios)
	slices.Sort(times)
	b.ReportMetric(ratios[len(ratios)/2], "x-bare")
	b.ReportMetric(times[len(times)/2]*1000, "ms")
}

// stageBench leaves an attempt's files in staging, all of them on the disk.
func stageBench(b *testing.B, staging string, j *messages.Job, small int, large int64) (list []messages.File) {
	base := storetest.Dir(staging, j, 1)
	add := func(name string, data []byte) {
		full := filepath.Join(base, "files", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(full), 0o755), os.WriteFile(full, data, 0o600), os.Chtimes(full, storetest.Epoch, storetest.Epoch)); err != nil {
			b.Fatal(err)
		}
		f := storetest.Entry(name, "")
		f.Size, f.Digest = int64(len(data)), messages.Digest(data)
		list = append(list, f)
	}
	for i := range small {
		add(fmt.Sprintf("%s/d%d/%d.txt", []string{"low", "high"}[i%10/5], i%10, i), []byte(strings.Repeat(fmt.Sprintf("%07d\n", i), 512)))
	}
	if large > 0 {
		data := make([]byte, large)
		add("large.bin", data)
		if err := storetest.LeaveMilestones(base, map[string]string{"large.bin": string(data)}); err != nil {
			b.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(base, "log"), []byte(benchLog(j)), 0o600); err != nil {
		b.Fatal(err)
	}
	syncFileSystem(b, base)
	return list
}

func benchLog(j *messages.Job) string {
	return fmt.Sprintf("2026-11-20T10:30:00Z %s says hello\n", j.Action)
}

// bareLoop is what the same files cost without any promise but their bytes.
func bareLoop(b *testing.B, from, to string, files []messages.File) {
	for _, f := range files {
		if err := bareCopy(filepath.Join(from, string(f.Path)), filepath.Join(to, string(f.Path)), f.Digest); err != nil {
			b.Fatal(err)
		}
	}
	syncFileSystem(b, to)
}

func bareCopy(from, to, want string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer dst.Close()
	sum := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{dst}, io.TeeReader(src, sum), make([]byte, 256<<10)); err != nil {
		return err
	}
	if messages.FormatDigest(sum.Sum(nil)) != want {
		return fmt.Errorf("%s: another digest", to)
	}
	return nil
}

func syncFileSystem(b *testing.B, dir string) {
	f, err := os.Open(dir)
	if err == nil {
		err = errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
	}
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkWorkspaceOutputs: x-none is what persisting a job of five small files
// takes in a workspace that has 20,000 outputs, beside one that has none, in
// turns: outputs of another action, old ones of the same, and others that a
// persister which has only just started has to read.
func BenchmarkWorkspaceOutputs(b *testing.B) {
	for _, w := range []struct {
		name, action string
		anew         bool
	}{{"others", "old", false}, {"obsolete", "new", false}, {"read", "old", true}} {
		b.Run(w.name, func(b *testing.B) {
			var times [2][]time.Duration
			few, many := newWorkspace(b), newWorkspace(b)
			many.persist(b, w.action, 20_000)
			many.persist(b, "new", 5) // marks those that are obsolete
			for b.Loop() {
				for i, ws := range []*benchWorkspace{few, many} {
					if w.anew {
						ws.restart(b)
					}
					times[i] = append(times[i], ws.persist(b, "new", 5))
				}
			}
			many.want(b, 20_005)
			for i := range times {
				slices.Sort(times[i])
			}
			none, all := times[0][len(times[0])/2], times[1][len(times[1])/2]
			b.ReportMetric(all.Seconds()/none.Seconds(), "x-none")
			b.ReportMetric(none.Seconds()*1000, "ms-none")
			b.ReportMetric(all.Seconds()*1000, "ms-20000")
		})
	}
}

// A benchWorkspace is a persister for one workspace.
type benchWorkspace struct {
	cfg   disk.Config
	root  string
	fleet *storetest.Fleet
	end   func() error
	jobs  int
}

func newWorkspace(b *testing.B) *benchWorkspace {
	root := b.TempDir()
	ws := &benchWorkspace{root: root, cfg: disk.Default(filepath.Join(root, "staging"), filepath.Join(root, "high"), filepath.Join(root, "medium")), end: func() error { return nil }}
	ws.restart(b)
	b.Cleanup(func() {
		if err := ws.end(); err != nil {
			b.Error(err)
		}
	})
	return ws
}

// restart begins with a persister that remembers nothing.
func (ws *benchWorkspace) restart(b *testing.B) {
	err := ws.end()
	ws.end = func() error { return nil }
	if err != nil {
		b.Fatal(err)
	}
	ws.fleet = storetest.NewFleet(ws.root)
	end, err := start(ws.fleet, ws.cfg, persister.DefaultConfig())
	if err != nil {
		b.Fatal(err)
	}
	ws.end = end
}

// persist takes a job of so many files, whose names no other job has, unless it
// is of five, and says how long that took.
func (ws *benchWorkspace) persist(b *testing.B, action string, files int) time.Duration {
	ws.jobs++
	job := storetest.NewJob("ws", action, fmt.Sprint("r", ws.jobs), high, "*/*/*.txt")
	ws.fleet.AddJob(job)
	left := map[string]string{}
	for i := range files {
		left[fmt.Sprintf("%s%d/d%d/%d.txt", action, files, i%10, i)] = fmt.Sprint(ws.jobs, i)
	}
	m, err := storetest.Stage(ws.cfg.Staging, job, 1, left)
	if err != nil {
		b.Fatal(err)
	}
	d, err := storetest.Delivery(m, 1)
	if err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	if err := ws.fleet.Deliver(b.Context(), d); err != nil {
		b.Fatal(err)
	}
	return time.Since(begun)
}

// want checks that the workspace has so many outputs.
func (ws *benchWorkspace) want(b *testing.B, outputs int) {
	data, err := os.ReadFile(filepath.Join(ws.cfg.High, "ws/metadata/manifest.json"))
	if err != nil {
		b.Fatal(err)
	}
	m, err := persister.ParseManifest(data)
	if err != nil || len(m.Outputs) != outputs {
		b.Fatalf("the workspace has %d outputs, want %d; %v", len(m.Outputs), outputs, err)
	}
}
