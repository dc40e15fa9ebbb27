package planner

import (
	"context"
	"fmt"
	"strings"

	"sluice/messages"
)

// heardWorker takes in what the register says about a worker.
func (s *session) heardWorker(e messages.Entry[messages.Presence]) {
	name, err := presenceBackend(e.Key)
	if err != nil {
		s.log.Warn().Err(err).Msg("a worker has a key that is none")
		return
	}
	b := s.backend(name)
	before, known := b.workers[e.Key]
	if known && e.Revision <= before.revision {
		return
	}
	b.workers[e.Key] = worker{presence: e.Value, revision: e.Revision}
	if e.Value == nil {
		s.log.Info().Str("worker", e.Key).Msg("worker is gone")
	} else if before.presence == nil {
		s.log.Info().Str("worker", e.Key).Msg("worker is here")
	}
	if before.presence == nil || e.Value == nil || !sameRoom(before.presence, e.Value) {
		b.dirty = true
	}
}

// sameRoom reports whether a worker can take as much as before. What it uses is
// known from leases.
func sameRoom(a, b *messages.Presence) bool {
	if a.Draining != b.Draining || len(a.Pools) != len(b.Pools) {
		return false
	}
	for pool, slots := range a.Pools {
		if b.Pools[pool].Total != slots.Total {
			return false
		}
	}
	return true
}

// heardSetting takes in what operators have set for a backend.
func (s *session) heardSetting(ctx context.Context, e messages.Entry[messages.Setting]) error {
	name, err := settingBackend(e.Key)
	if err != nil {
		s.log.Warn().Err(err).Msg("a setting has a key that is none")
		return nil
	}
	b := s.backend(name)
	if e.Revision <= b.revision {
		return nil
	}
	b.setting, b.revision = messages.Setting{}, e.Revision
	if e.Value != nil {
		b.setting = *e.Value
	}
	s.log.Info().Str("backend", name).Bool("paused", b.setting.Paused != nil).Bool("db_maintenance", b.setting.Maintenance != nil).
		Bool("reboot", b.setting.Reboot != nil).Msg("backend's setting changed")
	return s.obey(ctx, b)
}

// obey does what a setting asks for: jobs that must not go on are reset, and
// what the others wait for is worked out anew.
func (s *session) obey(ctx context.Context, b *backend) error {
	b.dirty = true
	for _, j := range b.jobs {
		if err := s.obeyJob(ctx, b, j); err != nil {
			return err
		}
		s.place(j)
	}
	return nil
}

func (s *session) obeyJob(ctx context.Context, b *backend, j *job) error {
	var code messages.Code
	switch {
	case j.record.State != messages.Running || j.record.Wanted != "" || j.record.Code == messages.Finalizing || j.lease.over():
		return nil // has not begun, or leaves the worker by itself
	case b.setting.Paused != nil && b.setting.Reboot == nil && j.unclaimed():
		return s.takeBack(ctx, j, messages.Paused)
	case b.setting.Reboot != nil:
		code = messages.WaitingOnReboot
	case b.setting.Maintenance != nil && j.record.Database:
		code = messages.WaitingDBMaintenance
	default:
		return nil
	}
	if err := s.set(ctx, j, code, ""); err != nil {
		return err
	}
	return s.halt(ctx, j, code)
}

func settingBackend(key string) (string, error) { return tokenOf(key, "setting", 2) }

func presenceBackend(key string) (string, error) { return tokenOf(key, "worker", 3) }

// tokenOf returns the second token of a key, which names a backend.
func tokenOf(key, kind string, count int) (string, error) {
	tokens := strings.Split(key, ".")
	if len(tokens) != count || tokens[0] != kind {
		return "", fmt.Errorf("%s is not the key of a %s", messages.Quote(key), kind)
	}
	name, err := messages.ParseToken(tokens[1])
	if err == nil {
		err = messages.CheckBackend(name)
	}
	return name, err
}
