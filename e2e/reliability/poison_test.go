package reliability

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/messages"
)

// poisons and goods are how many messages are bad and how many requests good.
const poisons, goods = 10_000, 100

// Where the poison number goes.
const poisonHeader = "X-Poison"

// A poison is a kind of bad message, for the number i. The victim is a job that
// exists.
type poison struct {
	name   string
	share  int // in hundredths of all
	few    int // this many in all, where they are large
	make   func(f *fleet, i int, victim messages.JobID) (subject string, data []byte)
	reason string // that the dead letter gives; empty: it is answered as a rejected request, and in no dead letter
}

func (f *fleet) poisons(largest int) []poison {
	text := func(format string, args ...any) []byte { return fmt.Appendf(nil, format, args...) }
	job := func(i int) messages.JobID { return messages.NewJobID("poison", strconv.Itoa(i)) }
	huge := func(n int) []byte { return bytes.Repeat([]byte("{"), n) }
	const stored = messages.MaxPayload + 8<<10 // what streams of our own messages take
	request, cancel := "sluice.request."+f.backend+".poison", "sluice.cancel."+f.backend+".poison"
	files := func(j messages.JobID) string { return "sluice.files." + f.backend + ".good0." + string(j) }
	event := func(j messages.JobID, attempt int) string {
		return fmt.Sprintf("sluice.event.worker.%s.good0.%s.%d.executing", f.backend, j, attempt)
	}
	listing := `"exit_code":0,"started_at":"2026-01-01T00:00:00Z","finished_at":"2026-01-01T00:00:01Z","listing":{"count":0,"digest":"sha256:` + strings.Repeat("0", 64) + `"},"log":{"bytes":0}`
	return []poison{
		{name: "a request that is not JSON", share: 20, reason: "not JSON", make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) {
			return request, text(`{"schema": 1, "id": %d`, i)
		}},
		{name: "a request of another version", share: 5, reason: "schema", make: func(f *fleet, i int, _ messages.JobID) (string, []byte) {
			return request, text(`{"schema": 99, "id": "new%d", "backend": %q, "workspace": "poison"}`, i, f.backend)
		}},
		{name: "a request for another backend", share: 2, make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) {
			return request, text(`{"schema":1,"id":"stray%d","backend":"elsewhere","workspace":"poison","repo":"x","commit":"%040d","actions":["a"]}`, i, i)
		}},
		{name: "a request of no backend", share: 1, reason: "none that an answer could go to", make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) {
			return "sluice.request.TPP.poison", text(`{"schema":1,"id":"upper%d"}`, i)
		}},
		{name: "a request of no workspace", share: 1, reason: "none that an answer could go to", make: func(f *fleet, i int, _ messages.JobID) (string, []byte) {
			return "sluice.request." + f.backend + ".=", text(`{"schema":1,"id":"blank%d"}`, i)
		}},
		{name: "a request of a backend with a very long name", share: 1, reason: "none that an answer could go to", make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) {
			return "sluice.request." + strings.Repeat("b", 300) + ".poison", text(`{"schema":1,"id":"long%d"}`, i)
		}},
		{name: "a cancellation of no backend", share: 1, reason: "none that an answer could go to", make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) {
			return "sluice.cancel.=2E=2E.poison", text(`{"schema":1,"request":"upper%d"}`, i)
		}},
		{name: "an event of no backend", share: 1, reason: "invalid backend name", make: func(_ *fleet, i int, victim messages.JobID) (string, []byte) {
			return fmt.Sprintf("sluice.event.worker.TPP.good0.%s.1.executing", victim), text(`{"schema":1,"n":%d,"job":%q,"attempt":1,"backend":"TPP","workspace":"good0","worker":"w","stage":"executing"}`, i, victim)
		}},
		{name: "an event that says too much", few: 5, reason: "the limit is", make: func(f *fleet, i int, victim messages.JobID) (string, []byte) {
			return event(victim, 1), text(`{"schema":1,"n":%d,"job":%q,"attempt":1,"backend":%q,"workspace":"good0","worker":"w","stage":"executing","reason":"%s"}`, i, victim, f.backend, strings.Repeat("r", 500<<10))
		}},
		{name: "files of a strange time", share: 1, reason: "is not a time between", make: func(f *fleet, i int, victim messages.JobID) (string, []byte) {
			strange := strings.Replace(listing, "2026-01-01T00:00:01Z", "9999-12-31T23:59:59-23:00", 1)
			return files(victim), text(`{"schema":1,"n":%d,"job":%q,"attempt":1,"backend":%q,"workspace":"good0","worker":"w",%s}`, i, victim, f.backend, strange)
		}},
		{name: "files of an image with a very long digest", few: 2, reason: "image_digest is", make: func(f *fleet, i int, victim messages.JobID) (string, []byte) {
			return files(victim), text(`{"schema":1,"n":%d,"job":%q,"attempt":1,"backend":%q,"workspace":"good0","worker":"w","image_digest":"%s",%s}`, i, victim, f.backend, strings.Repeat("d", 900<<10), listing)
		}},
		{name: "a request as large as the server takes", few: 3, reason: "request: ", make: func(*fleet, int, messages.JobID) (string, []byte) { return request, huge(largest) }},
		{name: "a cancellation that is not JSON", share: 10, reason: "cancellation: ", make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) { return cancel, text("%d cancel", i) }},
		{name: "a cancellation of nothing", share: 5, reason: "there is no request", make: func(f *fleet, i int, _ messages.JobID) (string, []byte) {
			return cancel, text(`{"schema":1,"request":"none%d","backend":%q,"workspace":"poison"}`, i, f.backend)
		}},
		{name: "a cancellation as large as the server takes", few: 1, reason: "cancellation: ", make: func(*fleet, int, messages.JobID) (string, []byte) { return cancel, huge(largest) }},
		{name: "files that are not JSON", share: 15, reason: "cannot be used", make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) { return files(job(i)), text("\x00\xff%d", i) }},
		{name: "files of a job that nobody planned", share: 8, reason: "nobody planned it", make: func(f *fleet, i int, _ messages.JobID) (string, []byte) {
			return files(job(i)), text(`{"schema":1,"job":%q,"attempt":1,"backend":%q,"workspace":"good0","worker":"w",%s}`, job(i), f.backend, listing)
		}},
		{name: "files of an attempt that was never dispatched", share: 5, reason: "never dispatched", make: func(f *fleet, i int, victim messages.JobID) (string, []byte) {
			return files(victim), text(`{"schema":1,"job":%q,"attempt":%d,"backend":%q,"workspace":"good0","worker":"w",%s}`, victim, 2+i, f.backend, listing)
		}},
		{name: "files of another job than the subject says", share: 5, reason: "says otherwise", make: func(f *fleet, i int, victim messages.JobID) (string, []byte) {
			return files(job(i)), text(`{"schema":1,"job":%q,"attempt":1,"backend":%q,"workspace":"good0","worker":"w",%s}`, victim, f.backend, listing)
		}},
		{name: "files of another backend", share: 3, reason: "says otherwise", make: func(_ *fleet, i int, victim messages.JobID) (string, []byte) {
			return files(victim), text(`{"schema":1,"job":%q,"attempt":%d,"backend":"elsewhere","workspace":"good0","worker":"w",%s}`, victim, 1+i, listing)
		}},
		{name: "files as many as the stream takes", few: 2, reason: "cannot be used", make: func(_ *fleet, i int, _ messages.JobID) (string, []byte) { return files(job(i)), huge(stored) }},
		{name: "an event that is not JSON", share: 10, reason: "not JSON", make: func(_ *fleet, i int, victim messages.JobID) (string, []byte) {
			return event(victim, 1), text("event %d", i)
		}},
		{name: "an event of another version", share: 2, reason: "schema", make: func(f *fleet, i int, victim messages.JobID) (string, []byte) {
			return event(victim, 1), text(`{"schema":2,"n":%d,"job":%q}`, i, victim)
		}},
		{name: "an event of a job that nobody planned", share: 5, reason: "nobody planned it", make: func(f *fleet, i int, _ messages.JobID) (string, []byte) {
			return event(job(i), 1), text(`{"schema":1,"job":%q,"attempt":1,"backend":%q,"workspace":"good0","worker":"w","stage":"executing"}`, job(i), f.backend)
		}},
		{name: "an event of an attempt that was never dispatched", share: 3, reason: "never dispatched", make: func(f *fleet, i int, victim messages.JobID) (string, []byte) {
			return event(victim, 2+i), text(`{"schema":1,"job":%q,"attempt":%d,"backend":%q,"workspace":"good0","worker":"w","stage":"executing"}`, victim, 2+i, f.backend)
		}},
		{name: "an event as large as the stream takes", few: 2, reason: "not JSON", make: func(_ *fleet, _ int, victim messages.JobID) (string, []byte) { return event(victim, 1), huge(stored) }},
		{name: "an action that is not JSON", share: 2, reason: "not an action", make: func(f *fleet, i int, _ messages.JobID) (string, []byte) {
			return fmt.Sprintf("sluice.action.%s.default.good0.%s", f.backend, job(i)), text("action %d", i)
		}},
	}
}

// TestPoison: ten thousand bad messages among a hundred good requests. All good
// ones finish, all bad ones are in the dead letters with their reason, headers
// and bytes, nothing comes again, and no service grows.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, failure := range inFleet(t, "poison", binary, 15*time.Minute, func(f *fleet) { poisoned(t, f) }) {
		t.Error(failure)
	}
}

func poisoned(t *testing.T, f *fleet) {
	other := f.elsewhere()
	defer other.clear()
	services := []*process{f.planner("planner"), f.worker("worker"), f.persister("persister")}
	services[0].env = append(services[0].env, "BACKENDS="+f.backend+","+other.backend)
	for _, p := range append(services, f.worker("worker2"), other.worker("worker3"), other.persister("persister2")) {
		p.start()
	}
	f.requestAlone("good0", "make")
	f.finished("good0")
	f.settled()
	victim := messages.NewJobID("good0", "make")
	largest := int(f.js.Conn().MaxPayload()) - 4<<10 // its headers count, too
	kinds := f.poisons(largest)

	type sent struct {
		kind *poison
		sum  [32]byte
		size int
	}
	var list []sent
	var acks []njs.PubAckFuture
	publish := func(kind *poison) {
		i := len(list)
		subject, data := kind.make(f, i, victim)
		msg := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{poisonHeader: {strconv.Itoa(i)}, "Nats-Msg-Id": {fmt.Sprintf("poison-%d", i)}}}
		ack, err := f.js.PublishMsgAsync(msg)
		if err != nil {
			f.fatalf("publish %s: %v", kind.name, err)
		}
		acks = append(acks, ack)
		list = append(list, sent{kind, sha256.Sum256(data), len(data)})
	}
	var order []*poison
	for k := range kinds {
		for range kinds[k].few {
			order = append(order, &kinds[k])
		}
	}
	f.poisonRegisters()
	for len(order) < poisons {
		for k := range kinds {
			for range kinds[k].share {
				order = append(order, &kinds[k])
			}
		}
	}
	order = order[:poisons]
	rand.New(rand.NewPCG(1, 1)).Shuffle(poisons, func(i, k int) { order[i], order[k] = order[k], order[i] })
	var half map[string]int
	for i, kind := range order {
		publish(kind)
		if i%100 == 0 && i/100 > 0 {
			f.requestAlone(messages.RequestID(fmt.Sprintf("good%d", i/100)), "make")
		}
		if i%1000 == 0 {
			other.requestAlone(messages.RequestID(fmt.Sprintf("far%d", i/1000)), "make")
		}
		if i == poisons/3 {
			f.idle()
			half = memory(services)
		}
	}
	for i, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			f.errorf("%s was not taken by the server: %v", list[i].kind.name, err)
		case <-f.ctx.Done():
			f.fatalf("the server did not take message %d", i)
		}
	}
	for i := range goods {
		f.finished(messages.RequestID(fmt.Sprintf("good%d", i)))
	}
	for i := range 10 {
		other.finished(messages.RequestID(fmt.Sprintf("far%d", i)))
	}
	f.registersMended()
	f.idle()
	f.settled()

	// The dead letters: each bad message once, whole, with a reason that says
	// what is wrong with it.
	seen, wrong := map[int]int{}, map[string]string{}
	err := f.conn.DeadLetters(f.late, func(l jetstream.DeadLetter) {
		if l.Subject == messages.ActionSubject(f.backend, "default", "committed", messages.NewJobID("committed", "gated")) {
			return // of its own accord, see registersMended
		}
		header := nats.Header(l.Header)
		i, err := strconv.Atoi(header.Get(poisonHeader))
		if err != nil || i >= len(list) || header.Get("Nats-Msg-Id") != fmt.Sprintf("poison-%d", i) {
			f.errorf("dead letter %d is of no bad message: %s, %v: %s", l.Sequence, l.Subject, l.Header, l.Reason)
			return
		}
		s := list[i]
		seen[i]++
		if s.kind.reason == "" || !strings.Contains(l.Reason, s.kind.reason) {
			wrong[s.kind.name] = "was parked because: " + l.Reason
		}
		if l.Size != s.size || sha256.Sum256(l.Data) != s.sum {
			wrong[s.kind.name] = fmt.Sprintf("of %d bytes was parked with %d, or others", s.size, l.Size)
		}
	})
	if err != nil {
		f.fatalf("%v", err)
	}
	for name, what := range wrong {
		f.errorf("%s %s", name, what)
	}
	missing := map[string]int{}
	for i, s := range list {
		want := 1
		if s.kind.reason == "" {
			want = 0
		}
		if seen[i] != want {
			missing[s.kind.name]++
		}
	}
	for name, n := range missing {
		f.errorf("%s: %d of them are not in the dead letters, or more than once", name, n)
	}
	for i := range goods {
		id := messages.RequestID(fmt.Sprintf("good%d", i))
		e, err := f.conn.JobsRegister().Get(f.late, messages.JobKey(f.backend, string(id), messages.NewJobID(id, "make")))
		if err != nil || e.Value.Code != messages.Success || e.Value.Attempt != 1 {
			f.errorf("request %s: %v, %+v", id, err, e.Value)
		}
	}
	whole := memory(services)
	for _, p := range services {
		t.Logf("%s: %d MiB after a third of the bad messages, %d MiB after all", p.name, half[p.name]>>20, whole[p.name]>>20)
		if whole[p.name] > half[p.name]+half[p.name]/2+(16<<20) {
			f.errorf("%s grows: %d MiB after a third of the bad messages, %d MiB after all", p.name, half[p.name]>>20, whole[p.name]>>20)
		}
	}
}

// elsewhere is another backend of the same fleet, which nobody poisons.
func (f *fleet) elsewhere() *fleet {
	o := &fleet{
		t: f.t, ctx: f.ctx, late: f.late, dir: filepath.Join(f.dir, "elsewhere"), binary: f.binary, backend: f.backend + "-far", commit: f.commit,
		server: f.server, conn: f.conn, js: f.js, processes: map[string]*process{}, began: f.began, ttl: f.ttl, grace: f.grace, most: f.most,
	}
	both := "BACKENDS=" + f.backend + "," + o.backend
	for _, name := range []string{o.dir, o.hits("worker3"), o.hits("persister2")} {
		if err := os.MkdirAll(name, 0o755); err != nil {
			f.fatalf("%v", err)
		}
	}
	o.env = append(slices.Clone(f.env), both, "BACKEND="+o.backend,
		"HIGH_PRIVACY_STORAGE_BASE="+o.high(), "MEDIUM_PRIVACY_STORAGE_BASE="+o.medium(), "SLUICE_STAGING="+o.staging())
	if out, err := o.command("topology", "--apply", "--store", "512M").CombinedOutput(); err != nil {
		f.fatalf("provision: %v\n%s", err, out)
	}
	if err := f.ackWait(time.Second); err != nil {
		f.fatalf("%v", err)
	}
	return o
}

// poisonRegisters has two jobs begin, and puts nonsense over the lease of one and
// as the commit of the other: what a worker and a persister that were broken
// into may write.
func (f *fleet) poisonRegisters() {
	key := map[messages.RequestID]string{}
	for _, id := range []messages.RequestID{"leased", "committed"} {
		f.requestAlone(id, "gated")
		f.seen(id, "gated", messages.Executing)
	}
	key["leased"] = "$KV." + jetstream.Leases + "." + messages.LeaseKey(f.backend, messages.NewJobID("leased", "gated"), 1)
	key["committed"] = "$KV." + jetstream.Commits + "." + messages.CommitKey(f.backend, messages.NewJobID("committed", "gated"))
	for id, subject := range key {
		if _, err := f.js.Publish(f.ctx, subject, []byte("garbage")); err != nil {
			f.fatalf("%s: %v", id, err)
		}
	}
}

// registersMended lets the two jobs end: one has another attempt, as after a
// worker that was lost, the other one cannot end but as an internal error.
func (f *fleet) registersMended() {
	f.finished("committed")
	f.await("the garbled lease is fenced", func() error {
		e, err := f.conn.LeasesRegister().Get(f.late, messages.LeaseKey(f.backend, messages.NewJobID("leased", "gated"), 1))
		if err == nil && (e.Value == nil || e.Value.State != messages.LeaseFenced) {
			err = fmt.Errorf("it is %+v", e.Value)
		}
		return err
	})
	f.await("the other attempt runs", func() error { // and ends
		out, err := exec.Command("docker", "ps", "-q", "--filter", "label=sluice.backend="+f.backend, "--filter", "label=sluice.job="+string(messages.NewJobID("leased", "gated")), "--filter", "label=sluice.attempt=2").Output()
		if box := strings.TrimSpace(string(out)); err == nil && box != "" {
			return exec.Command("docker", "exec", box, "touch", "gate").Run()
		}
		return errors.Join(err, errors.New("it does not"))
	})
	f.finished("leased")
	for id, want := range map[messages.RequestID]messages.Code{"leased": messages.Success, "committed": messages.InternalError} {
		e, err := f.conn.JobsRegister().Get(f.late, messages.JobKey(f.backend, string(id), messages.NewJobID(id, "gated")))
		if err != nil || e.Value.Code != want {
			f.errorf("request %s: %v, %+v, want %s", id, err, e.Value, want)
		}
	}
	if e, err := f.conn.LeaderRegister().Get(f.late, messages.LeaderKey); err != nil || e.Value == nil || e.Value.Again > 0 {
		f.errorf("the planner had to begin anew: %v, %+v", err, e.Value)
	}
}

// requestAlone asks for actions in a workspace of their own.
func (f *fleet) requestAlone(id messages.RequestID, actions ...string) {
	r := &messages.Request{ID: id, Backend: f.backend, Workspace: string(id), Source: messages.Source{Repo: study, Branch: "main", Commit: f.commit}, Actions: actions}
	if err := f.conn.Publish(f.ctx, r.Subject(), r, ""); err != nil {
		f.fatalf("%v", err)
	}
}

// idle waits until no message waits for anybody.
func (f *fleet) idle() { f.await("all messages are handled", f.noMessages) }

// memory is what each process has in memory, in bytes.
func memory(list []*process) map[string]int {
	of := map[string]int{}
	for _, p := range list {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if _, rest, found := strings.Cut(string(status), "VmRSS:"); found {
			kib, _ := strconv.Atoi(strings.Fields(rest)[0])
			of[p.name] = kib << 10
		}
	}
	return of
}
