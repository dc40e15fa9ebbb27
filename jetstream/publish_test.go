package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// TestActionIsQueuedOnce: a subject of SLUICE_ACTIONS holds one message.
func TestActionIsQueuedOnce(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	a := action(1)
	publish(t, c, a)
	if err := c.Publish(t.Context(), a.Subject(), a, ""); !errors.Is(err, messages.ErrQueued) {
		t.Errorf("second Publish: %v, want ErrQueued", err)
	}
	if err := c.PurgeAction(t.Context(), a.Subject()); err != nil {
		t.Fatal(err)
	}
	if err := c.PurgeAction(t.Context(), a.Subject()); err != nil {
		t.Errorf("PurgeAction of one that is gone: %v", err)
	}
	publish(t, c, a)
}

// TestFullStream: a stream that is full says so, and the others go on.
func TestFullStream(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, tc := range []struct {
		stream string
		m      interface {
			messages.Message
			Subject() string
		}
		limit func(*njs.StreamConfig)
	}{
		{jetstream.Actions, action(1), func(c *njs.StreamConfig) { c.MaxMsgs = 1 }},
		{jetstream.Files, files(1), func(c *njs.StreamConfig) { c.MaxBytes = 1 }},
	} {
		config := f.stream(t, tc.stream).Config
		tc.limit(&config)
		if _, err := f.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if tc.stream == jetstream.Actions {
			publish(t, f.Conn, action(2))
		}
		err := f.Publish(t.Context(), tc.m.Subject(), tc.m, "")
		if !errors.Is(err, messages.ErrFull) || errors.Is(err, messages.ErrQueued) || !strings.Contains(fmt.Sprint(err), tc.m.Subject()) {
			t.Errorf("Publish to a full %s: %v, want ErrFull and the subject", tc.stream, err)
		}
		// Done by whom it is for, the next finds room.
		config.MaxBytes = 1 << 20
		if _, err := f.js.UpdateStream(t.Context(), config); err != nil {
			t.Fatal(err)
		}
		if tc.stream == jetstream.Actions {
			if err := next(t, f.Queue(tc.stream, jetstream.WorkerConsumer("test", "default"), "worker")).Settle(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		publish(t, f.Conn, tc.m)
	}
	publish(t, f.Conn, request(1))
	config := f.stream(t, "KV_SLUICE_JOBS").Config
	config.MaxBytes = 1
	if _, err := f.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if _, err := f.LatestRegister().Create(t.Context(), messages.LatestKey("test", "ws", "a"), &messages.Latest{Action: "a"}); !errors.Is(err, messages.ErrFull) {
		t.Errorf("Create in a full register: %v, want ErrFull", err)
	}
}

// TestPublishAcrossRestart: who publishes while the server is away is done when
// it is back; each message is stored once.
func TestPublishAcrossRestart(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const n = 20
	published := make(chan error, n)
	for i := range n {
		go func() {
			published <- f.Publish(context.WithoutCancel(t.Context()), files(i).Subject(), files(i), "")
		}()
	}
	f.restart(t)
	for range n {
		if err := <-published; err != nil {
			t.Errorf("Publish: %v", err)
		}
	}
	if got, err := f.Count(t.Context(), jetstream.Files, "sluice.files.test.>"); err != nil || got != n {
		t.Errorf("%d messages are stored, %v; want %d", got, err, n)
	}

	f.server.Stop()
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		published <- f.Publish(ctx, request(1).Subject(), request(1), "")
	}()
	f.lines.await(t, "NATS does not answer")
	stop()
	if err := <-published; !errors.Is(err, context.Canceled) {
		t.Errorf("Publish that was given up: %v, want Canceled", err)
	}
	f.restart(t)
	publish(t, f.Conn, request(2))
	if got, err := f.Count(t.Context(), jetstream.Requests, ""); err != nil || got != 1 {
		t.Errorf("%d requests are stored, %v; want 1: what was given up is not sent later", got, err)
	}
}

// TestPublishAll: several messages are stored in their order, each with an error of
// its own, and all of them though the server goes away meanwhile.
func TestPublishAll(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	publish(t, f.Conn, action(7))
	list := make([]messages.Outgoing, 50)
	for i := range list {
		a := action(i)
		if i == 5 {
			a.Attempt = 0 // not valid
		}
		list[i] = messages.Outgoing{Subject: a.Subject(), Message: a, ID: fmt.Sprint("action/", i)}
	}
	for i, err := range f.PublishAll(t.Context(), list) {
		switch {
		case i == 5 && (err == nil || errors.Is(err, messages.ErrQueued)), i == 7 && !errors.Is(err, messages.ErrQueued), i != 5 && i != 7 && err != nil:
			t.Errorf("message %d: %v", i, err)
		}
	}
	q := f.Queue(jetstream.Actions, jetstream.WorkerConsumer("test", "default"), "worker")
	var got []string
	for range len(list) - 1 {
		d := next(t, q)
		got = append(got, d.Subject)
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{list[7].Subject} // it was there before
	for i := range list {
		if i != 5 && i != 7 {
			want = append(want, list[i].Subject)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}

	for _, away := range []bool{false, true} { // when it begins
		if away {
			f.server.Stop()
		}
		rest := slices.Clone(list[10:])
		for i := range rest {
			rest[i].ID = fmt.Sprint("again/", i, away)
		}
		ended := make(chan []error, 1)
		go func() { ended <- f.PublishAll(context.WithoutCancel(t.Context()), rest) }()
		if away {
			f.lines.await(t, "NATS does not answer")
		}
		f.restart(t)
		if err := errors.Join(<-ended...); err != nil {
			t.Errorf("PublishAll across a restart: %v", err)
		}
		if n, err := f.Count(t.Context(), jetstream.Actions, ""); err != nil || n != uint64(len(rest)) {
			t.Errorf("%d actions are stored (%v), want %d", n, err, len(rest))
		}
		for range rest {
			if err := next(t, q).Settle(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDedupe: an id saves a copy of what is still there. It is forgotten for
// what was removed when the server restarts, which costs a repeat, no more.
func TestDedupe(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	send := func() uint64 {
		if err := f.Publish(t.Context(), files(1).Subject(), files(1), "files/1"); err != nil {
			t.Fatalf("Publish: %v", err)
		}
		return f.stream(t, jetstream.Files).State.LastSeq
	}
	if first, second := send(), send(); first != second {
		t.Errorf("the same id was stored at %d and %d, want one", first, second)
	}
	if err := next(t, f.filesQueue()).Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	before := send()
	f.restart(t)
	if after := send(); after != before+1 {
		t.Errorf("after a restart the id of a removed message is known (%d, then %d): the reason for registers is gone", before, after)
	}
}

// TestPublishInvalid: what breaks its rules never reaches the server.
func TestPublishInvalid(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	bad := files(1)
	bad.Attempt = 0
	if err := f.Publish(t.Context(), bad.Subject(), bad, ""); err == nil {
		t.Error("Publish of invalid files went through")
	}
	if err := f.Send("sluice.control.test.w", &messages.Control{Kind: "?"}); err == nil {
		t.Error("Send of an invalid control message went through")
	}
	if err := f.Park(t.Context(), bad.Subject(), bad, "test", "no reason"); err == nil {
		t.Error("Park of invalid files went through")
	}
	if n := f.stream(t, jetstream.Files).State.LastSeq + f.stream(t, jetstream.Dead).State.LastSeq; n != 0 {
		t.Errorf("%d messages were stored, want none", n)
	}
}

// TestControls hears its own worker's messages, drops what cannot be read, and
// comes back after a restart.
func TestControls(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx, stop := context.WithCancel(t.Context())
	heard := make(chan messages.ControlKind, 100)
	listening := make(chan error, 1)
	go func() {
		listening <- jetstream.Controls{Conn: f.Conn, Backend: "test", Worker: "w1"}.Listen(ctx, func(c *messages.Control) { heard <- c.Kind })
	}()
	subject := messages.ControlSubject("test", "w1")
	say := func(kind messages.ControlKind) { // a control message may be lost: until it is heard
		for {
			_ = f.nc.Publish(subject, []byte("poison"))
			_ = f.Send(messages.ControlSubject("test", "w2"), &messages.Control{Kind: messages.ControlStop, Job: job(1)})
			_ = f.Send(subject, &messages.Control{Kind: kind})
			if err := f.nc.Flush(); err != nil && !errors.Is(err, nats.ErrConnectionReconnecting) {
				t.Errorf("flush: %v", err)
			}
			select {
			case got := <-heard:
				if got == kind {
					return
				}
				if got == messages.ControlStop {
					t.Error("heard what was said to another worker")
				}
			default:
			}
		}
	}
	say(messages.ControlDrain)
	f.restart(t)
	say(messages.ControlOpen)
	f.lines.await(t, "message cannot be read")
	stop()
	if err := <-listening; err != nil {
		t.Errorf("Listen: %v", err)
	}
}

// TestVerdicts hears what its own backend's persister says once it is stored,
// and says when it may have missed something.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	ctx, stop := context.WithCancel(t.Context())
	heard, missed := make(chan messages.JobID, 1000), make(chan struct{}, 100)
	listening := make(chan error, 1)
	go func() {
		listening <- jetstream.Verdicts{Conn: f.Conn, Backend: "test"}.Follow(ctx,
			func(_ context.Context, e *messages.PersisterEvent) { heard <- e.Job }, func() { missed <- struct{}{} })
	}()
	event := func(backend string, n int) *messages.PersisterEvent {
		return &messages.PersisterEvent{Job: job(n), Attempt: 1, Backend: backend, Workspace: "ws", Verdict: messages.Persisted}
	}
	say := func(n int) { // until it listens
		for {
			publish(t, f.Conn, event("other", 1))
			if _, err := f.js.Publish(t.Context(), event("test", 2).Subject(), []byte("poison")); err != nil {
				t.Fatal(err)
			}
			publish(t, f.Conn, &messages.WorkerEvent{Job: job(3), Attempt: 1, Backend: "test", Workspace: "ws", Worker: "w", Stage: messages.StageClaimed})
			publish(t, f.Conn, event("test", n))
			select {
			case got := <-heard:
				if got == job(n) {
					return
				}
				if got != job(4) {
					t.Fatalf("heard of %s, want %s", got, job(n))
				}
			default:
			}
		}
	}
	say(4)
	f.restart(t)
	<-missed
	say(5)
	f.lines.await(t, "message cannot be read")
	stop()
	if err := <-listening; err != nil {
		t.Errorf("Follow: %v", err)
	}
}

// TestFilesQueued: a files message is queued until it is acknowledged.
func TestFilesQueued(t *testing.T) {
	t.Parallel()
	c := jetstreamtest.Conn(t)
	subject := "sluice.files.test.ws.abcdefghijklmnop"
	queued := func() bool {
		t.Helper()
		yes, err := c.FilesQueued(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if queued() {
		t.Error("a message is queued that nobody published")
	}
	if err := c.Publish(t.Context(), subject, &messages.LogChunk{Job: "abcdefghijklmnop", Attempt: 1}, ""); err != nil {
		t.Fatal(err)
	}
	if !queued() {
		t.Error("a published message is not queued")
	}
	d, err := c.Queue(jetstream.Files, jetstream.PersisterConsumer("test"), "persister").Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !queued() {
		t.Error("a message that is with its persister is not queued")
	}
	if err := d.Settle(t.Context(), messages.Park("no good")); err != nil {
		t.Fatal(err)
	}
	if queued() {
		t.Error("a message that was given up is queued")
	}
}
