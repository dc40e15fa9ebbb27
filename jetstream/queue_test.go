package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"

	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// TestReceive: what cannot be processed is with the dead, byte for byte, and
// blocks nothing; what fails comes again; what was settled does not.
func TestReceive(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	q := f.filesQueue()
	publish(t, f.Conn, files(0))
	publish(t, f.Conn, files(1))
	var sent []byte
	ctx, stop := context.WithCancel(t.Context())
	var tries []int
	err := q.Receive(ctx, func(_ context.Context, d *messages.Delivery) error {
		if d.At.IsZero() {
			t.Error("a delivery does not say when it was stored")
		}
		if d.Subject == files(0).Subject() {
			sent = d.Data
			return messages.Park("no such job\nhere")
		}
		if tries = append(tries, d.Tries); len(tries) < 3 {
			return errors.New("not yet")
		}
		stop()
		return nil
	})
	if err != nil || !slices.Equal(tries, []int{1, 2, 3}) {
		t.Fatalf("Receive: %v after tries %v, want 1, 2 and 3", err, tries)
	}
	letters := f.letters(t)
	if len(letters) != 1 {
		t.Fatalf("dead letters = %+v, want one", letters)
	}
	l := letters[0]
	if string(l.Data) != string(sent) || l.Reason != "no such job here" || l.Subject != files(0).Subject() || l.Stream != jetstream.Files || l.By != "persister" || l.At == "" {
		t.Errorf("dead letter = %+v", l)
	}
	if n := f.stream(t, jetstream.Files).State.Msgs; n != 0 {
		t.Errorf("%d messages are left, want none", n)
	}
}

// TestPoison: bytes and headers that any client can publish are parked with
// what can be kept of them, and go back as they were.
func TestPoison(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 10<<10)
	for _, tc := range []struct {
		name        string
		data        []byte
		header      nats.Header // as published
		kept        map[string][]string
		dropped     int
		retryHeader map[string][]string
	}{
		{"NotJSON", []byte("\x00\xff not json"), nil, map[string][]string{}, 0, nil},
		{"Empty", nil, nil, map[string][]string{}, 0, nil},
		{
			"OwnHeaders", []byte("{}"), nats.Header{"Trace": {"a", "b"}, "trace": {"c"}},
			map[string][]string{"Trace": {"a", "b"}, "trace": {"c"}}, 0, map[string][]string{"Trace": {"a", "b"}, "trace": {"c"}},
		},
		{
			"ServerHeaders", []byte("{}"), nats.Header{"Nats-Msg-Id": {"files/1"}, "nats-ttl": {"1s"}},
			map[string][]string{"Nats-Msg-Id": {"files/1"}, "nats-ttl": {"1s"}}, 0, nil,
		},
		{
			"ForgedHeaders", []byte("{}"), nats.Header{"Sluice-Subject": {"$JS.API.STREAM.DELETE.SLUICE_JOBS"}, "Sluice-Reason": {"all is well"}, "Sluice-Original-Nats-Rollup": {"all"}},
			map[string][]string{"Sluice-Subject": {"$JS.API.STREAM.DELETE.SLUICE_JOBS"}, "Sluice-Reason": {"all is well"}, "Sluice-Original-Nats-Rollup": {"all"}}, 0, nil,
		},
		{"LargeHeaders", []byte("{}"), nats.Header{"A": {big}, "B": {big, "small"}}, map[string][]string{"A": {big}, "B": {"small"}}, 1, map[string][]string{"A": {big}, "B": {"small"}}},
		{"Large", make([]byte, 970<<10), nil, map[string][]string{}, 0, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t)
			subject := files(1).Subject()
			if _, err := f.js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: tc.header, Data: tc.data}); err != nil {
				t.Fatal(err)
			}
			q := f.filesQueue()
			d := next(t, q)
			if err := d.Settle(t.Context(), messages.Park("%s", strings.Repeat("why\x1b\xff", 2000))); err != nil {
				t.Fatalf("park: %v", err)
			}
			letters := f.letters(t)
			if len(letters) != 1 || f.stream(t, jetstream.Files).State.Msgs != 0 {
				t.Fatalf("%d dead letters, %d messages left; want one and none", len(letters), f.stream(t, jetstream.Files).State.Msgs)
			}
			l := letters[0]
			if diff := cmp.Diff(tc.kept, l.Header); diff != "" || l.Dropped != tc.dropped {
				t.Errorf("headers (-want +got), %d dropped, want %d:\n%s", l.Dropped, tc.dropped, diff)
			}
			if string(l.Data) != string(tc.data) || l.Subject != subject || len(l.Reason) > 5000 || !strings.HasPrefix(l.Reason, "why ") {
				t.Errorf("dead letter: %d bytes of %s, %.100s", len(l.Data), l.Subject, l.Reason)
			}
			if _, err := f.RetryDead(t.Context(), l.Sequence); err != nil {
				t.Fatalf("RetryDead: %v", err)
			}
			again := next(t, q)
			var header map[string][]string
			for key, values := range again.Header {
				if !strings.HasPrefix(key, "Nats-") { // of the retry itself
					header = add(header, key, values)
				}
			}
			if diff := cmp.Diff(tc.retryHeader, header); diff != "" || string(again.Data) != string(tc.data) || again.Subject != subject {
				t.Errorf("put back on %s, %d bytes, headers (-want +got):\n%s", again.Subject, len(again.Data), diff)
			}
		})
	}
}

// TestRequestToTheBrim: a request as large as a server takes that is set up for
// no more is kept, given up with a reason, and put back whole; none is refused
// unheard.
func TestRequestToTheBrim(t *testing.T) {
	t.Parallel()
	f := &fleet{lines: newLogLines()}
	url := configuredServer(t, `max_payload: 1MB`)
	f.Conn = connect(t, jetstream.Options{URL: url})
	f.nc, f.js = raw(t, url)
	if err := f.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	subject, data := "sluice.request.test.ws", bytes.Repeat([]byte("x"), 1<<20-512) // room for what tells a retry
	if err := f.nc.Publish(subject, data); err != nil {
		t.Fatal(err)
	}
	q := f.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner")
	if err := next(t, q).Settle(t.Context(), messages.Park("too large")); err != nil {
		t.Fatalf("park: %v", err)
	}
	l := f.letters(t)[0]
	if l.Cut != 1 || l.Reason != "too large" || l.Size < len(data)-4<<10 {
		t.Errorf("letter = %+v of %d bytes", l, l.Size)
	}
	if _, err := f.RetryDead(t.Context(), l.Sequence); err != nil {
		t.Fatalf("RetryDead: %v", err)
	}
	if again := next(t, q); !bytes.Equal(again.Data, data) {
		t.Errorf("put back: %d bytes of %d", len(again.Data), len(data))
	}
}

func add(m map[string][]string, key string, values []string) map[string][]string {
	if m == nil {
		m = map[string][]string{}
	}
	m[key] = values
	return m
}

// TestUnwritableHeader: a name that our client reads but does not write must
// not keep a message out of the dead letters for ever.
func TestUnwritableHeader(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	rawPublish(t, f, files(1).Subject(), "NATS/1.0\r\nBad Name: x\r\na/b: y\r\nGood: z\r\n\r\n", "{}")
	d := next(t, f.filesQueue())
	if err := d.Settle(t.Context(), messages.Park("poison")); err != nil {
		t.Fatalf("park: %v", err)
	}
	l := f.letters(t)[0]
	if diff := cmp.Diff(map[string][]string{"Good": {"z"}}, l.Header); diff != "" || l.Dropped != 2 {
		t.Errorf("headers (-want +got), %d dropped, want 2:\n%s", l.Dropped, diff)
	}
}

// TestParkedMessagesBlockNothing: behind ten thousand that are given up the
// good ones are processed.
func TestParkedMessagesBlockNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const poisonous, good = 10_000, 20
	for n := range poisonous + good {
		data := "poison"
		if n%(poisonous/good) == 0 {
			data = "good"
		}
		if _, err := f.js.PublishAsync(fmt.Sprintf("sluice.files.test.ws.job%d", n), []byte(data), njs.WithStallWait(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if n%1000 == 0 {
			<-f.js.PublishAsyncComplete()
		}
	}
	<-f.js.PublishAsyncComplete()
	all := f.stream(t, jetstream.Files).State.Msgs
	ctx, stop := context.WithCancel(t.Context())
	var processed, seen atomic.Int64
	err := f.filesQueue(jetstream.Concurrently(16)).Receive(ctx, func(_ context.Context, d *messages.Delivery) error {
		if seen.Add(1) == int64(all) {
			defer stop()
		}
		if string(d.Data) == "good" {
			processed.Add(1)
			return nil
		}
		return messages.Park("poison")
	})
	if err != nil {
		t.Fatal(err)
	}
	dead, left := f.stream(t, jetstream.Dead).State.Msgs, f.stream(t, jetstream.Files).State.Msgs
	if processed.Load() != good+1 || dead != all-good-1 || left != 0 {
		t.Errorf("%d processed, %d dead, %d left of %d; want %d, all others and none", processed.Load(), dead, left, all, good+1)
	}
}

// TestGivenBackBlocksNothing: files messages that are given back again and again
// keep none behind them from a persister, however many they are.
func TestGivenBackBlocksNothing(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	q := f.filesQueue(jetstream.Retrying(time.Hour, time.Hour))
	const stuck = 100
	if n := f.consumer(t, jetstream.Files, jetstream.PersisterConsumer("test")).Config.MaxAckPending; n != -1 {
		t.Errorf("max_ack_pending is %d, want none", n)
	}
	for n := range stuck {
		publish(t, f.Conn, files(n))
		if err := next(t, q).Settle(t.Context(), errors.New("not yet")); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, f.Conn, files(stuck))
	if d := next(t, q); d.Subject != files(stuck).Subject() {
		t.Errorf("got %s, want the one that was not given back", d.Subject)
	}
}

// TestInOrder: messages with one key are handled one after another as they came,
// others at the same time.
func TestInOrder(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const jobs, each = 4, 5
	for n := range jobs * each {
		if _, err := f.js.Publish(t.Context(), fmt.Sprintf("sluice.files.test.ws.job%d", n%jobs), []byte(strconv.Itoa(n/jobs))); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var handled int
	seen, busy := map[string][]string{}, map[string]bool{}
	all := make(chan struct{}) // closed when each key's first is in hand
	q := f.filesQueue(jetstream.Concurrently(jobs*each), jetstream.InOrder(func(subject string) string { return subject }))
	err := q.Receive(ctx, func(_ context.Context, d *messages.Delivery) error {
		mu.Lock()
		if busy[d.Subject] {
			t.Errorf("two of %s are in hand at once", d.Subject)
		}
		busy[d.Subject] = true
		seen[d.Subject] = append(seen[d.Subject], string(d.Data))
		if len(seen) == jobs && len(seen[d.Subject]) == 1 {
			close(all)
		}
		mu.Unlock()
		<-all
		mu.Lock()
		defer mu.Unlock()
		busy[d.Subject] = false
		if handled++; handled == jobs*each {
			stop()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for subject, got := range seen {
		if diff := cmp.Diff([]string{"0", "1", "2", "3", "4"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", subject, diff)
		}
	}
}

// TestParkingFails: a message that cannot be put into the dead letters is not
// lost, but comes again until it can.
func TestParkingFails(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	publish(t, f.Conn, files(1))
	config := f.stream(t, jetstream.Dead).Config
	if err := f.js.DeleteStream(t.Context(), jetstream.Dead); err != nil {
		t.Fatal(err)
	}
	q := f.filesQueue()
	d := next(t, q)
	if err := d.Settle(t.Context(), messages.Park("poison")); err == nil || !strings.Contains(err.Error(), "no stream") {
		t.Fatalf("park without dead letters: %v, want that no stream takes them", err)
	}
	d = next(t, q)
	if d.Tries != 2 {
		t.Errorf("tries = %d, want 2", d.Tries)
	}
	if _, err := f.js.CreateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if err := d.Settle(t.Context(), messages.Park("poison")); err != nil {
		t.Fatalf("park: %v", err)
	}
	if n := len(f.letters(t)); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// TestNextIsExact: however often the server restarts while all hands are full,
// a queue holds as many messages as were taken, and none is lost.
func TestNextIsExact(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	const workers, rounds = 4, 3
	for n := range workers * rounds {
		publish(t, f.Conn, action(n))
	}
	q := f.Queue(jetstream.Actions, jetstream.WorkerConsumer("test", "default"), "worker")
	taken := map[string]bool{}
	for round := range rounds {
		got := make(chan *messages.Delivery, workers)
		var group sync.WaitGroup
		for range workers {
			group.Go(func() {
				if d, err := q.Next(t.Context()); err == nil {
					got <- d
				}
			})
		}
		group.Wait()
		close(got)
		f.restart(t)
		f.restart(t)
		info := f.consumer(t, jetstream.Actions, jetstream.WorkerConsumer("test", "default"))
		if info.NumAckPending != workers {
			t.Errorf("round %d: %d messages are held, want %d", round, info.NumAckPending, workers)
		}
		for d := range got {
			if taken[d.Subject] {
				t.Errorf("%s was handed over twice", d.Subject)
			}
			taken[d.Subject] = true
			if err := d.Settle(t.Context(), nil); err != nil {
				t.Errorf("Settle after a restart: %v", err)
			}
		}
	}
	if len(taken) != workers*rounds || f.stream(t, jetstream.Actions).State.Msgs != 0 {
		t.Errorf("%d taken, %d left; want all and none", len(taken), f.stream(t, jetstream.Actions).State.Msgs)
	}
}

// TestNextWaits through a restart, and through the loss of its consumer.
func TestNextWaits(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	q := f.filesQueue()
	waiting := func() <-chan *messages.Delivery {
		got := make(chan *messages.Delivery, 1)
		go func() {
			if d, err := q.Next(context.WithoutCancel(t.Context())); err == nil {
				got <- d
			}
		}()
		return got
	}
	got := waiting()
	f.restart(t)
	publish(t, f.Conn, files(1))
	d := <-got
	if d.Subject != files(1).Subject() {
		t.Errorf("Next across a restart = %s", d.Subject)
	}
	if err := d.Settle(t.Context(), nil); err != nil {
		t.Fatal(err)
	}

	got = waiting()
	if err := f.js.DeleteConsumer(t.Context(), jetstream.Files, jetstream.PersisterConsumer("test")); err != nil {
		t.Fatal(err)
	}
	f.lines.await(t, "messages cannot be asked for")
	if err := f.Provision(t.Context(), jetstreamtest.Topology()); err != nil {
		t.Fatal(err)
	}
	publish(t, f.Conn, files(2))
	if d := <-got; d.Subject != files(2).Subject() {
		t.Errorf("Next across a lost consumer = %s", d.Subject)
	}

	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := q.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Next with an ended context: %v, want Canceled", err)
	}
}

// TestRequestsKeepTheirOrder: a cancellation does not overtake its request,
// also when that fails at first and two planners ask.
func TestRequestsKeepTheirOrder(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for n := range 5 {
		publish(t, f.Conn, request(n))
	}
	ctx, stop := context.WithCancel(t.Context())
	var mu sync.Mutex
	var order []string
	failed := false
	q := f.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner", jetstream.Retrying(time.Millisecond, time.Millisecond), jetstream.Concurrently(2))
	if err := q.Receive(ctx, func(_ context.Context, d *messages.Delivery) error {
		mu.Lock()
		defer mu.Unlock()
		var r messages.Request
		if err := messages.Decode(d.Data, &r); err != nil {
			return err
		}
		if r.ID == "r1" && !failed {
			failed = true
			return errors.New("not yet")
		}
		if order = append(order, string(r.ID)); len(order) == 5 {
			stop()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "r0 r1 r2 r3 r4" {
		t.Errorf("order = %s, want that of publishing", got)
	}
}

// TestProgress: a message stays with a handler that takes longer than the
// consumer's ack wait.
func TestProgress(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	config := f.consumer(t, jetstream.Files, jetstream.PersisterConsumer("test")).Config
	config.AckWait = 10 * time.Second // a machine may stand still for some of them
	if _, err := f.js.UpdateConsumer(t.Context(), jetstream.Files, config); err != nil {
		t.Fatal(err)
	}
	publish(t, f.Conn, files(1))
	ctx, stop := context.WithCancel(t.Context())
	var deliveries atomic.Int32
	if err := f.filesQueue(jetstream.Concurrently(2)).Receive(ctx, func(context.Context, *messages.Delivery) error {
		if deliveries.Add(1) == 1 {
			f.awaitExpiry(t, config.AckWait+2*time.Second)
			stop()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if deliveries.Load() != 1 {
		t.Errorf("%d deliveries, want 1", deliveries.Load())
	}
}

// TestStopHandsBack: what a receiver that stops breaks off is another's at once,
// neither after the pause of a failure nor after the wait for an ack.
func TestStopHandsBack(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	publish(t, f.Conn, files(1))
	ctx, stop := context.WithCancel(t.Context())
	if err := f.filesQueue(jetstream.Retrying(24*time.Hour, 24*time.Hour)).Receive(ctx, func(context.Context, *messages.Delivery) error {
		stop()
		return fmt.Errorf("copy files: %w", ctx.Err())
	}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	d := next(t, f.filesQueue())
	wait := f.consumer(t, jetstream.Files, jetstream.PersisterConsumer("test")).Config.AckWait
	if took := time.Since(began); d.Subject != files(1).Subject() || took > wait-time.Second {
		t.Errorf("%s came after %s, want it before the ack wait of %s", d.Subject, took, wait)
	}
}

// TestReceiveStops after what is in hand is done and settled; the handler is
// not broken off.
func TestReceiveStops(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	publish(t, f.Conn, files(1))
	publish(t, f.Conn, files(2))
	ctx, stop := context.WithCancel(t.Context())
	handled := 0
	if err := f.filesQueue().Receive(ctx, func(handleCtx context.Context, _ *messages.Delivery) error {
		handled++
		stop()
		return handleCtx.Err()
	}); err != nil {
		t.Fatal(err)
	}
	if left := f.stream(t, jetstream.Files).State.Msgs; handled != 1 || left != 1 {
		t.Errorf("%d handled, %d left; want one each", handled, left)
	}
}

// TestSome: what waits is handed over together, in order, and no more than was
// asked for; nothing is waited for.
func TestSome(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	q := f.filesQueue()
	if list := q.Some(t.Context(), 3); len(list) != 0 {
		t.Errorf("%d messages of an empty queue", len(list))
	}
	for i := range 10 {
		publish(t, f.Conn, files(i))
	}
	for f.consumer(t, jetstream.Files, jetstream.PersisterConsumer("test")).NumPending < 10 {
		runtime.Gosched() // a consumer hears of what its stream has stored a little later
	}
	first := next(t, q)
	if first.Behind != 9 {
		t.Errorf("%d messages wait behind the first, want 9", first.Behind)
	}
	got := []*messages.Delivery{first}
	for _, tc := range []struct{ ask, want, behind int }{{4, 4, 5}, {100, 5, 0}, {2, 0, 0}} {
		list := q.Some(t.Context(), tc.ask)
		if len(list) != tc.want || len(list) > 0 && list[len(list)-1].Behind != tc.behind {
			t.Errorf("%d messages were asked for and %d came, want %d with %d behind", tc.ask, len(list), tc.want, tc.behind)
		}
		got = append(got, list...)
	}
	for i, d := range got {
		if d.Subject != files(i).Subject() {
			t.Errorf("message %d is on %s", i, d.Subject)
		}
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	f.server.Stop()
	if list := q.Some(t.Context(), 3); len(list) != 0 {
		t.Errorf("%d messages of a server that is away", len(list))
	}
}

// TestAsking: a queue asks for no more messages than there is room for, and goes on
// when there is some again.
func TestAsking(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	for i := range 6 {
		publish(t, f.Conn, files(i))
	}
	var mu sync.Mutex
	room, changed := 0, make(chan struct{})
	asked := make(chan struct{}, 100)
	q := f.filesQueue(jetstream.Concurrently(6), jetstream.Asking(func() (int, <-chan struct{}) {
		mu.Lock()
		defer mu.Unlock()
		asked <- struct{}{}
		return room, changed
	}))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	came := make(chan string, 6)
	go func() {
		ended <- q.Receive(ctx, func(_ context.Context, d *messages.Delivery) error {
			came <- d.Subject
			mu.Lock()
			defer mu.Unlock()
			room = max(room-1, 0)
			return nil
		})
	}()
	<-asked
	if n := f.consumer(t, jetstream.Files, jetstream.PersisterConsumer("test")); n.NumWaiting > 0 || n.NumAckPending > 0 || len(came) > 0 {
		t.Errorf("%d requests wait, %d messages are out, without room", n.NumWaiting, n.NumAckPending)
	}
	mu.Lock()
	room = 100
	close(changed)
	changed = make(chan struct{})
	mu.Unlock()
	for range 6 {
		<-came
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("Receive: %v", err)
	}
}
