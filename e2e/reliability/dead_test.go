package reliability

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	njs "github.com/nats-io/nats.go/jetstream"

	"sluice/jetstream"
	"sluice/messages"
)

// TestDeadFiles: the message with a job's files is given up, here because it is
// of a version that the persister does not know. The job does not wait for it
// for ever: it gets another attempt, and the job server its end. Put back by an
// operator, the very bytes and headers are judged again.
func TestDeadFiles(t *testing.T) {
	t.Parallel()
	for _, failure := range inFleet(t, "dead-files", binary, 5*time.Minute, deadFiles) {
		t.Error(failure)
	}
}

func deadFiles(f *fleet) {
	worker := f.worker("worker")
	f.planner("planner").start()
	worker.start()
	f.request("r1", "make")
	files := (&messages.Files{Backend: f.backend, Workspace: "ws", Job: messages.NewJobID("r1", "make")}).Subject()
	f.await("the files message is published", func() error {
		if n, err := f.conn.Count(f.ctx, jetstream.Files, files); err != nil || n != 1 {
			return fmt.Errorf("%d messages (%w)", n, err)
		}
		return nil
	})
	stream, err := f.js.Stream(f.ctx, jetstream.Files)
	if err != nil {
		f.fatalf("%v", err)
	}
	if err := stream.Purge(f.ctx, njs.WithPurgeSubject(files)); err != nil {
		f.fatalf("%v", err)
	}
	const newer = `{"schema": 2, "files": "\u0000 of the future"}`
	if _, err := f.js.PublishMsg(f.ctx, &nats.Msg{Subject: files, Data: []byte(newer), Header: nats.Header{"X-From": {"a newer worker", "twice"}}}); err != nil {
		f.fatalf("%v", err)
	}
	// The worker would hand its files over again after a minute, which may be over
	// before the next attempt is: it is frozen as soon as it has let the first go.
	f.await("the first attempt is handed over", func() error {
		e, err := f.conn.LeasesRegister().Get(f.ctx, messages.LeaseKey(f.backend, messages.NewJobID("r1", "make"), 1))
		switch {
		case err != nil:
			return err
		case e.Value == nil || e.Value.State != messages.LeaseReleased:
			return errors.New("its lease is held")
		}
		if code := f.job("r1", "make").Code; code != messages.Finalizing {
			return fmt.Errorf("its job is %s", code)
		}
		return nil
	})
	worker.signal(syscall.SIGSTOP)
	f.worker("other").start()
	f.persister("persister").start()
	first := f.letter()

	f.finished("r1")
	f.wantJobs("r1", map[string]string{"make": "succeeded/2"})
	if lost := f.job("r1", "make").Lost; len(lost) != 1 || !strings.Contains(lost[0].Reason, "given up") {
		f.errorf("lost attempts: %+v", lost)
	}
	f.wantTiers(highFirst, mediumFirst)

	out, err := f.command("dead", "retry", fmt.Sprint(first)).CombinedOutput()
	if err != nil {
		f.fatalf("dead retry: %v\n%s", err, out)
	}
	again := f.letter()
	if again == first {
		f.errorf("letter %d is still there", first)
	}
	worker.signal(syscall.SIGKILL) // its next life hands the first attempt's files over again, and is told that they lost
	f.settled()
	f.wantDead(1, 1)
}

// letter waits for the one dead letter, and returns its number.
func (f *fleet) letter() uint64 {
	var found []jetstream.DeadLetter
	f.await("there is a dead letter", func() error {
		found = nil
		err := f.conn.DeadLetters(f.ctx, func(l jetstream.DeadLetter) { found = append(found, l) })
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("there are %d", len(found))
		}
		return err
	})
	l := found[0]
	if from := l.Header["X-From"]; len(from) != 2 || from[1] != "twice" || !strings.Contains(string(l.Data), "of the future") || len(l.Data) != l.Size || !strings.Contains(l.Reason, "schema") {
		f.errorf("letter %d: %v, %q, because: %s", l.Sequence, l.Header, l.Data, l.Reason)
	}
	return l.Sequence
}
