package jetstream_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/jetstream"
	"sluice/messages"
)

func logSubject(n int) string { return messages.LogSubject("test", job(n), 1) }

func (f *fleet) log(t testing.TB, n, chunk int) {
	t.Helper()
	m := &messages.LogChunk{Job: job(n), Attempt: 1, Offset: int64(chunk), Text: fmt.Sprint(chunk)}
	if err := f.Publish(t.Context(), logSubject(n), m, ""); err != nil {
		t.Fatalf("log: %v", err)
	}
}

func offset(t testing.TB, f jetstream.Followed) int64 {
	t.Helper()
	var chunk messages.LogChunk
	if err := messages.Decode(f.Data, &chunk); err != nil {
		t.Fatalf("chunk: %v", err)
	}
	return chunk.Offset
}

// TestFollow: in order, each once, through restarts; other subjects stay out.
func TestFollow(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for chunk := range 700 { // more than one request reads
		f.log(t, 1, chunk)
	}
	f.log(t, 2, 0)
	want, last := int64(0), 700
	err := f.Follow(t.Context(), jetstream.Logs, logSubject(1), jetstream.Start{}, func(m jetstream.Followed) bool {
		if got := offset(t, m); got != want || m.Subject != logSubject(1) || m.At.IsZero() {
			t.Errorf("got chunk %d of %s, want %d", got, m.Subject, want)
		}
		want++
		switch want {
		case 300, 700, 701:
			f.restart(t)
			f.log(t, 2, 0)
			f.log(t, 1, last)
			last++
		}
		return want < 703
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.stream(t, jetstream.Logs).State.Consumers; got != 0 {
		t.Errorf("%d consumers are left behind, want none", got)
	}
}

// TestFollowFrom a sequence, a time, now.
func TestFollowFrom(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for chunk := range 5 {
		f.log(t, 1, chunk)
	}
	s, err := f.js.Stream(t.Context(), jetstream.Logs)
	if err != nil {
		t.Fatal(err)
	}
	third, err := s.GetMsg(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		start jetstream.Start
		want  string
	}{
		{"Beginning", jetstream.Start{}, "0 1 2 3 4"},
		{"Sequence", jetstream.Start{Sequence: 4}, "3 4"},
		{"Since", jetstream.Start{Since: third.Time}, "2 3 4"},
	} {
		var got []string
		if err := f.Follow(t.Context(), jetstream.Logs, "sluice.log.>", tc.start, func(m jetstream.Followed) bool {
			got = append(got, fmt.Sprint(offset(t, m)))
			return m.Pending > 0
		}); err != nil || strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, %v; want %s", tc.name, got, err, tc.want)
		}
	}

	// From now on, with a restart before the first message.
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	got := make(chan int64)
	go func() {
		_ = f.Follow(ctx, jetstream.Logs, logSubject(1), jetstream.Start{New: true}, func(m jetstream.Followed) bool {
			select {
			case got <- offset(t, m):
			case <-ctx.Done():
			}
			return true
		})
	}()
	for f.stream(t, jetstream.Logs).State.Consumers == 0 {
	}
	f.restart(t)
	f.log(t, 1, 5)
	f.log(t, 1, 6)
	if a, b := <-got, <-got; a != 5 || b != 6 {
		t.Errorf("from now on: %d, %d; want 5, 6", a, b)
	}
	if err := f.Follow(t.Context(), "SLUICE_NONE", ">", jetstream.Start{}, func(jetstream.Followed) bool { return true }); err == nil {
		t.Error("Follow of a missing stream goes on")
	}
	if n, err := f.Count(t.Context(), jetstream.Logs, "sluice.log.*.*.*"); err != nil || n != 7 {
		t.Errorf("Count = %d, %v; want 7", n, err)
	}
}

// TestDeadLetters: gaps are skipped, one can be shown, put back and dropped.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	if n := len(f.letters(t)); n != 0 {
		t.Errorf("%d dead letters on a new server", n)
	}
	for n := range 4 {
		if err := f.Park(t.Context(), files(n).Subject(), files(n), "planner", "lost"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.DropDead(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if _, err := f.RetryDead(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	var left []uint64
	for _, l := range f.letters(t) {
		left = append(left, l.Sequence)
	}
	if got := fmt.Sprint(left); got != "[1 4]" {
		t.Errorf("left are %s, want 1 and 4", got)
	}
	l, err := f.DeadLetter(t.Context(), 4)
	if err != nil || l.By != "planner" || l.Reason != "lost" || l.Subject != files(3).Subject() || l.Size != len(l.Data) || l.Size == 0 {
		t.Errorf("DeadLetter = %+v, %v", l, err)
	}
	if d := next(t, f.filesQueue()); d.Subject != files(2).Subject() {
		t.Errorf("put back was %s, want %s", d.Subject, files(2).Subject())
	}
	for _, gone := range []uint64{0, 2, 99} {
		_, show := f.DeadLetter(t.Context(), gone)
		_, retry := f.RetryDead(t.Context(), gone)
		for what, err := range map[string]error{"DeadLetter": show, "RetryDead": retry, "DropDead": f.DropDead(t.Context(), gone)} {
			if !errors.Is(err, messages.ErrNotFound) {
				t.Errorf("%s(%d): %v, want ErrNotFound", what, gone, err)
			}
		}
	}
}

// TestRetryLendsNoRights: a letter goes back to none but the fleet's queues,
// whatever somebody wrote into it.
func TestRetryLendsNoRights(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for _, subject := range []string{
		"", "$JS.API.STREAM.DELETE.SLUICE_JOBS", "$KV.SLUICE_COMMITS.test.job", "sluice.outcome.test.r1", "sluice.control.test.w1",
		"sluice.log.test.job.1", "sluice.dead.a.b.c", "sluice.action.>", "sluice.files.test.ws.*", "sluice.files.test.ws", "other",
	} {
		rawPublish(t, f, "sluice.dead.a.b.c", "NATS/1.0\r\nSluice-Subject: "+subject+"\r\n\r\n", "{}")
		seq := f.stream(t, jetstream.Dead).State.LastSeq
		if l, err := f.RetryDead(t.Context(), seq); err == nil || !strings.Contains(err.Error(), "cannot be put back") {
			t.Errorf("RetryDead of a letter from %q: %v, want that it cannot be put back", l.Subject, err)
		}
	}
	if n, err := f.Count(t.Context(), jetstream.Dead, ""); err != nil || n != 11 {
		t.Errorf("%d letters are left, %v; want all 11", n, err)
	}
}

// TestForgedLetters: a letter that a backend's worker wrote by itself goes back
// to nothing of another backend's, and to no queue that only job servers write.
func TestForgedLetters(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	rawPublish(t, f, "sluice.request.test.ws", "NATS/1.0\r\n\r\n", `{"id":"theirs"}`)
	for _, l := range []struct{ letter, subject, header, data string }{
		{"sluice.dead.other._._", "sluice.request.test.ws", "", "{}"},
		{"sluice.dead.other.ws._", "sluice.request.test.ws", "Sluice-Stream: SLUICE_REQUESTS\r\nSluice-Sequence: 1\r\n", `{"id":"theirs"}`},
		{"sluice.dead.test.ws._", "sluice.request.test.ws", "", "{}"},
		{"sluice.dead.test.ws._", "sluice.request.test.ws", "Sluice-Sequence: 1\r\n", `{"id":"mine"}`},
		{"sluice.dead.test.ws._", "sluice.request.test.ws", "Sluice-Sequence: 1\r\nSluice-Cut: 1\r\n", `{"id":"mine"}`},
		{"sluice.dead.test.ws._", "sluice.request.test.ws", "Sluice-Sequence: 7\r\n", `{"id":"theirs"}`},
		{"sluice.dead.test.ws._", "sluice.cancel.test.ws", "Sluice-Sequence: 1\r\n", `{"id":"theirs"}`},
		{"sluice.dead.other.ws." + string(files(1).Job), files(1).Subject(), "", "{}"},
		{"sluice.dead.other.ws.job", "sluice.event.persister.test.ws.job.persisted", "", "{}"},
		{"sluice.dead.other.ws.job", "sluice.action.test.db.ws.job", "", "{}"},
	} {
		rawPublish(t, f, l.letter, "NATS/1.0\r\nSluice-By: planner\r\nSluice-Subject: "+l.subject+"\r\n"+l.header+"\r\n", l.data)
		seq := f.stream(t, jetstream.Dead).State.LastSeq
		if _, err := f.RetryDead(t.Context(), seq); err == nil || !strings.Contains(err.Error(), "cannot be put back") {
			t.Errorf("RetryDead of a letter on %s from %s with %q: %v, want that it cannot be put back", l.letter, l.subject, l.header, err)
		}
		if got, err := f.DeadLetter(t.Context(), seq); err != nil || got.Letter != l.letter {
			t.Errorf("the letter's own subject is %q (%v), want %s", got.Letter, err, l.letter)
		}
	}
	for _, stream := range []string{jetstream.Files, jetstream.Events, jetstream.Actions} {
		if n := f.stream(t, stream).State.Msgs; n != 0 {
			t.Errorf("%d messages are in %s", n, stream)
		}
	}
	if n := f.stream(t, jetstream.Requests).State.Msgs; n != 1 {
		t.Errorf("%d requests are there, want the one", n)
	}
}
