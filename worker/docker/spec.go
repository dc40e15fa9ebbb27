package docker

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/strslice"
	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"sluice/worker"
)

// Labels of our containers.
const (
	labelWorker    = "sluice.worker"
	labelInstance  = "sluice.instance" // of the worker's folder
	labelBackend   = "sluice.backend"
	labelJob       = "sluice.job"
	labelAttempt   = "sluice.attempt"
	labelWorkspace = "sluice.workspace"
	labelAction    = "sluice.action"
	labelParked    = "sluice.parked" // of one that was started in advance: which process's, and its folder
)

// name is the container's: it makes a second one of an attempt impossible, but
// for one that was started in advance, which gets it late. Another fleet on this
// engine may have a job of the same id.
func (r *Runtime) name(a worker.Attempt) string {
	name := fmt.Sprintf("sluice-%s-%d", a.Job, a.Number)
	if r.id != "" {
		name += "-" + r.id
	}
	return name
}

// config is what the container runs, and as whom.
func (r *Runtime) config(spec worker.Spec) *container.Config {
	env := make([]string, 0, len(spec.Env))
	for _, v := range spec.Env {
		env = append(env, v.Name+"="+v.Value)
	}
	return &container.Config{
		Image:      r.ref(spec.Image),
		Cmd:        strslice.StrSlice(spec.Args),
		Env:        env,
		User:       strconv.Itoa(spec.UID) + ":" + strconv.Itoa(spec.GID),
		WorkingDir: "/workspace",
		StopSignal: "SIGTERM",
		Labels: map[string]string{
			labelWorker: r.cfg.Worker, labelInstance: r.id, labelBackend: spec.Attempt.Backend, labelJob: string(spec.Attempt.Job), labelAttempt: strconv.Itoa(spec.Attempt.Number),
			labelWorkspace: spec.Workspace, labelAction: spec.Action,
		},
		// With network mode none alone the engine makes a network sandbox: twice
		// the time of a start. Disabled, the container has a namespace of its own
		// with nothing but loopback in it.
		NetworkDisabled: spec.Network.Name == "",
		Healthcheck:     &container.HealthConfig{Test: []string{"NONE"}},
	}
}

// hostConfig is the container's isolation: nothing that an action does not
// need.
func (r *Runtime) hostConfig(ctx context.Context, spec worker.Spec) (*container.HostConfig, error) {
	cpus, err := r.cpus(ctx)
	if err != nil {
		return nil, err
	}
	init := true
	pids := spec.Limits.Processes
	h := &container.HostConfig{
		NetworkMode:    "none",
		CapDrop:        []string{"ALL"},
		SecurityOpt:    []string{"no-new-privileges:true"},
		ReadonlyRootfs: true,
		Init:           &init,
		IpcMode:        "private",
		RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Tmpfs:          map[string]string{"/tmp": fmt.Sprintf("rw,exec,nosuid,nodev,size=%d,mode=1777", r.cfg.TmpSize)},
		Mounts:         []mount.Mount{{Type: mount.TypeBind, Source: spec.Dir, Target: "/workspace", BindOptions: &mount.BindOptions{Propagation: mount.PropagationRPrivate}}},
		// What outlives a worker must go through a driver that keeps it. Its size
		// is bounded far above what is kept of a log.
		LogConfig: container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "1g", "max-file": "2"}},
		Resources: container.Resources{
			NanoCPUs:   int64(min(spec.Limits.CPUs, cpus) * 1e9),
			Memory:     spec.Limits.Memory,
			MemorySwap: spec.Limits.Memory, // the same: no swap on top
			PidsLimit:  &pids,
			Ulimits: []*units.Ulimit{
				{Name: "core"},
				descriptors(),
			},
		},
	}
	if spec.Limits.Disk > 0 {
		h.Ulimits = append(h.Ulimits, &units.Ulimit{Name: "fsize", Soft: spec.Limits.Disk, Hard: spec.Limits.Disk})
	}
	if spec.Network.Name == "" {
		if r.hosts != "" {
			h.Mounts = append(h.Mounts, mount.Mount{Type: mount.TypeBind, Source: r.hosts, Target: "/etc/hosts", ReadOnly: true})
		}
		return h, nil
	}
	h.NetworkMode = container.NetworkMode(spec.Network.Name)
	h.DNS, h.ExtraHosts = spec.Network.DNS, spec.Network.Hosts
	return h, nil
}

// descriptors is how many files a process may have open. Said explicitly, as an
// engine's own limit may be a thousand million, over which some programs loop;
// but not above what this machine lets a process have.
func descriptors() *units.Ulimit {
	n := int64(16384)
	var own unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &own) == nil && own.Max < uint64(n) {
		n = int64(own.Max)
	}
	return &units.Ulimit{Name: "nofile", Soft: n, Hard: n}
}

// cpus is how many the machine has: an engine refuses a container that may use
// more.
func (r *Runtime) cpus(ctx context.Context) (float64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ncpu == 0 {
		info, err := r.cli.Info(ctx)
		if err != nil {
			return 0, fmt.Errorf("ask the engine for its machine: %w", err)
		}
		r.ncpu = float64(max(info.NCPU, 1))
	}
	return r.ncpu, nil
}

// parseTime reads the engine's times; it writes year 1 for "not yet".
func parseTime(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() < 1970 {
		return time.Time{}
	}
	return t.UTC()
}
