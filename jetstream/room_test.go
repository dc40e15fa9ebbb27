package jetstream_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/jetstream/jetstreamtest"
	"sluice/messages"
)

// flood publishes large messages, each with its number, until the server
// refuses one, then smaller ones. It returns how many it took.
func (f *fleet) flood(t *testing.T) (taken int) {
	t.Helper()
	for _, size := range []int{128 << 10, 4 << 10, 64} {
		for {
			msg := &nats.Msg{Subject: request(1).Subject(), Data: bytes.Repeat([]byte{'x'}, size), Header: nats.Header{"N": {fmt.Sprint(taken)}}}
			_, err := f.js.PublishMsg(t.Context(), msg)
			var api *njs.APIError
			if errors.As(err, &api) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if taken++; taken > 1000 {
				t.Fatal("a stream of a few megabytes takes more than a thousand messages")
			}
		}
	}
	return taken
}

// readAll takes and settles n messages of a flood, in their order.
func readAll(t *testing.T, f *fleet, q *jetstream.Queue, n int) {
	t.Helper()
	for i := range n {
		d := next(t, q)
		if got := d.Header["N"]; len(got) != 1 || got[0] != fmt.Sprint(i) {
			t.Fatalf("read number %v of the flood, want %d", got, i)
		}
		if have := f.stream(t, jetstream.Requests).State; have.LastSeq-have.FirstSeq+1 < uint64(n-i) {
			t.Fatalf("%d messages are left of %d that are unread", have.Msgs, n-i)
		}
		if err := d.Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
}

func small(t *testing.T, f *fleet) {
	t.Helper()
	topology := jetstreamtest.Topology()
	topology.Store = 256 << 20
	if err := f.Provision(t.Context(), topology); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadRequestsStay: a flood of requests pushes out none that is unread.
// Who publishes is told that there is no room, and there is again when the
// planner has read them, of which it keeps what there is room for.
func TestUnreadRequestsStay(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	small(t, f)
	for round := range 2 { // the second finds the stream half full of what was read
		before := f.stream(t, jetstream.Requests).State.Msgs
		taken := f.flood(t)
		if taken < 10 {
			t.Fatalf("round %d: the stream took %d messages, and had %d", round, taken, before)
		}
		if err := f.Publish(t.Context(), request(1).Subject(), request(1), ""); !errors.Is(err, messages.ErrFull) {
			t.Fatalf("Publish to the full stream: %v, want ErrFull", err)
		}
		q := f.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner", jetstream.MakingRoom())
		readAll(t, f, q, taken)
		publish(t, f.Conn, request(2))
		if err := next(t, q).Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		have := f.stream(t, jetstream.Requests)
		if least, most := uint64(have.Config.MaxBytes)/3, uint64(have.Config.MaxBytes)/2+256<<10; have.State.Bytes < least || have.State.Bytes > most {
			t.Errorf("round %d: %d bytes of what was read are kept, want %d to %d", round, have.State.Bytes, least, most)
		}
	}
}

// TestRequestsOfAnEarlierRelease: their stream dropped the oldest. It becomes
// one that does not, and what it holds stays, read or not.
func TestRequestsOfAnEarlierRelease(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	small(t, f)
	config := f.stream(t, jetstream.Requests).Config
	config.Discard, config.MaxAge = njs.DiscardOld, 90*24*time.Hour
	if _, err := f.js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	q := f.Queue(jetstream.Requests, jetstream.PlannerConsumer, "planner", jetstream.MakingRoom())
	for range 50 {
		if _, err := f.js.Publish(t.Context(), request(1).Subject(), bytes.Repeat([]byte{'x'}, 128<<10)); err != nil {
			t.Fatal(err)
		}
		if err := next(t, q).Settle(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	before := f.stream(t, jetstream.Requests).State.Msgs
	small(t, f)
	have := f.stream(t, jetstream.Requests)
	if have.Config.Discard != njs.DiscardNew || have.Config.MaxAge != 0 || have.State.Msgs != before {
		t.Errorf("after provisioning: %v, %v, %d messages; want %v, 0s, %d", have.Config.Discard, have.Config.MaxAge, have.State.Msgs, njs.DiscardNew, before)
	}
	readAll(t, f, q, f.flood(t))
	publish(t, f.Conn, request(2))
}
