package planner

import (
	"context"
	"fmt"
	"slices"
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
	if e.Value != nil && !e.Value.Draining && slices.Contains(b.setting.Drain, e.Value.Worker) {
		s.steerWorker(name, e.Value.Worker, messages.ControlDrain) // it has started anew, or has not heard it
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

// adoptSetting makes a setting the backend's.
func (s *session) adoptSetting(b *backend, setting messages.Setting) {
	b.setting = setting
	s.disclose.Store(b.name, setting.Disclosure)
}

// disclosure returns what a backend's outcomes may tell beyond counts and
// codes.
func (s *session) disclosure(backend string) []string {
	list, _ := s.disclose.Load(backend)
	what, _ := list.([]string)
	return what
}

// steer tells workers that they are to take nothing, or something again. Who
// does not hear it now is told again when it says that it lives.
func (s *session) steer(b *backend, before []string) {
	for _, w := range b.workers {
		if w.presence == nil {
			continue
		}
		name := w.presence.Worker
		switch now := slices.Contains(b.setting.Drain, name); {
		case now && !w.presence.Draining:
			s.steerWorker(b.name, name, messages.ControlDrain)
		case !now && slices.Contains(before, name):
			s.steerWorker(b.name, name, messages.ControlOpen)
		}
	}
}

func (s *session) steerWorker(backend, worker string, kind messages.ControlKind) {
	if err := s.Controls.Send(messages.ControlSubject(backend, worker), &messages.Control{Kind: kind}); err != nil {
		s.log.Debug().Err(err).Str("worker", worker).Str("kind", string(kind)).Msg("control message was not sent")
	}
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
	before := b.setting.Drain
	b.revision = e.Revision
	if e.Value != nil {
		s.adoptSetting(b, *e.Value)
	} else {
		s.adoptSetting(b, messages.Setting{})
	}
	s.steer(b, before)
	s.log.Info().Str("backend", name).Bool("paused", b.setting.Paused != nil).Bool("db_maintenance", b.setting.Maintenance != nil).
		Bool("reboot", b.setting.Reboot != nil).Msg("backend's setting changed")
	return s.obey(ctx, b)
}

// obey does what a setting asks for: jobs that must not go on are reset, and
// what the others wait for is worked out anew.
func (s *session) obey(ctx context.Context, b *backend) error {
	b.dirty = true
	for _, j := range b.jobs {
		if err := s.spare(ctx, j, s.obeyJob(ctx, b, j)); err != nil {
			return err
		}
		if s.jobs[j.key] == j {
			s.place(j)
		}
	}
	return nil
}

func (s *session) obeyJob(ctx context.Context, b *backend, j *job) error {
	var code messages.Code
	var why *messages.Switch
	switch {
	case j.record.State != messages.Running || j.record.Wanted != "" || j.record.Code == messages.Finalizing || j.lease.over():
		return nil // has not begun, or leaves the worker by itself
	case b.setting.Paused != nil && b.setting.Reboot == nil && j.unclaimed():
		return s.takeBack(ctx, j, messages.Paused)
	case b.setting.Reboot != nil:
		code, why = messages.WaitingOnReboot, b.setting.Reboot
	case b.setting.Maintenance != nil && j.record.Database:
		code, why = messages.WaitingDBMaintenance, b.setting.Maintenance
	default:
		return nil
	}
	if err := s.set(ctx, j, code, code.Message()+since(why)); err != nil {
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
