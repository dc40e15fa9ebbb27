package worker

import (
	"strings"

	"sluice/messages"
)

// environment is what the container gets to know: the action's own variables,
// then the backend's, then, for database actions only, the secrets of this
// worker's own configuration. A later one wins.
func (w *Worker) environment(a *messages.Action) ([]messages.EnvVar, error) {
	env := append([]messages.EnvVar{}, a.Env...)
	env = append(env, messages.EnvVar{Name: "HOME", Value: "/tmp"}, messages.EnvVar{Name: "OPENSAFELY_BACKEND", Value: w.cfg.Backend})
	env = append(env, w.cfg.Env...)
	for prefix, vars := range w.cfg.ImageEnv {
		if strings.HasPrefix(a.Image, prefix) {
			env = append(env, vars...)
		}
	}
	if !a.Database {
		return unique(env), nil
	}
	env = append(env, w.cfg.DBEnv...)
	dataset := a.Dataset
	if dataset == "" || dataset == "full" { // the reference's FULL_DATABASE_URL
		dataset = "default"
	}
	if url := w.cfg.Databases[dataset]; url != "" {
		env = append(env, messages.EnvVar{Name: "DATABASE_URL", Value: url})
	} else if len(w.cfg.Databases) > 0 {
		return nil, messages.Failf(messages.JobError, "backend %s has no database %s", w.cfg.Backend, messages.Quote(dataset))
	}
	return unique(env), nil
}

func unique(env []messages.EnvVar) []messages.EnvVar {
	at := map[string]int{}
	var out []messages.EnvVar
	for _, v := range env {
		if i, seen := at[v.Name]; seen {
			out[i] = v
			continue
		}
		at[v.Name] = len(out)
		out = append(out, v)
	}
	return out
}

// limits fills in this worker's own where the action has none, and never lets
// an action have more time or disk than the worker gives.
func (w *Worker) limits(a *messages.Action) messages.Limits {
	l, d := a.Limits, w.cfg.Limits
	if l.CPUs <= 0 {
		l.CPUs = d.CPUs
	}
	if l.Memory <= 0 {
		l.Memory = d.Memory
	}
	l.Memory = max(l.Memory, minMemory)
	if l.Processes <= 0 {
		l.Processes = d.Processes
	}
	if l.Disk <= 0 || l.Disk > d.Disk {
		l.Disk = d.Disk
	}
	if l.Time <= 0 || l.Time > d.Time {
		l.Time = d.Time
	}
	return l
}
