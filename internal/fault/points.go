package fault

import (
	"fmt"
	"strings"
)

// A Point is an instant at which a process may die, hang or be cut off.
type Point struct {
	Name string // service.when
	In   string // the function that calls At: package.Receiver.function
	Lost string // what would be lost, doubled or stuck there if its protection were missing
}

// Points is every fault point, each service's in the order of a job's life.
var Points = []Point{
	{"planner.after-lead", "planner.Planner.once", "A planner holds the leader key and does nothing: no other would ever plan. The key expires in seconds, and another planner takes it."},
	{"planner.after-reject", "planner.session.reject", "A request is refused in its plan, and the job server is not told. The next planner tells what a plan says that is not marked as finished."},
	{"planner.after-plan", "planner.session.decide", "A request has a plan and none of its jobs: it would be accepted and never run. Plans that are not done are carried out by the next planner."},
	{"planner.between-records", "planner.session.create", "Some jobs of a plan exist and the others do not. Job ids follow from the request, so that those that exist are found and the others made."},
	{"planner.before-plan-done", "planner.session.carryOut", "All jobs exist, and the plan does not say so: they would be made twice. A job's record is created once, under a key that follows from its request."},
	{"planner.after-record-before-action", "planner.session.dispatch", "A job is begun in its record, and no worker can see it: it would wait for ever. An attempt that nobody has claimed is published again."},
	{"planner.after-action", "planner.session.dispatch", "An action is queued, and the planner forgets that it was: it would be queued twice. The queue takes one action of a job, and an attempt is claimed once."},
	{"planner.after-loss", "planner.session.retry", "An attempt is counted as lost, and the job neither waits nor ends. What is wanted stands in the record, and the next planner goes on with it."},
	{"planner.after-fence", "planner.session.giveUp", "A lost attempt is fenced, and its job does not know: it would run for ever on nothing. A fenced lease of a running job counts as a lost attempt."},
	{"planner.after-take-back", "planner.session.fenceUnclaimed", "A queued action was purged and fenced, and its job still counts as dispatched. A fence of the planner's own sends the job back to wait."},
	{"planner.after-wanted", "planner.session.want", "A cancellation is noted, and nothing is stopped. What is wanted is in the record, and the next planner ends the job for it."},
	{"planner.after-tombstone", "planner.session.end", "No attempt can win any more, and the job runs on. The tombstone is the job's commit: the next planner ends it as that says."},
	{"planner.after-purge", "planner.session.halt", "A queued action is gone, and its lease could still be claimed by a worker that has the message. The halt is repeated until the lease is fenced."},
	{"planner.after-stopping", "planner.session.haltLease", "A lease says that its attempt is to stop, and nobody tells the worker. It reads so at its next renewal."},
	{"planner.after-halt", "planner.session.end", "An attempt was stopped, and its job has no end. The tombstone says which."},
	{"planner.after-dead-letter", "planner.session.end", "A job that was given up is in the dead letters, and has no end. It may be parked twice; its end is written once."},
	{"planner.after-unlist", "planner.session.end", "A cancelled job is no longer its action's newest one, and has no end. Both can be repeated."},
	{"planner.after-final-record", "planner.session.over", "A job has ended, and nobody is told: what waits for it would wait for ever. The next planner looks up what each job waits for, and tells again."},
	{"planner.before-outcome", "planner.session.say", "An outcome is decided and not published. The next planner tells again of every request that is not marked as finished."},
	{"planner.after-finished-outcome", "planner.session.conclude", "A request's end is told, and not marked as told: it may be told twice, never not at all."},

	{"worker.after-take", "worker.Worker.next", "A worker has a message and no lease: the action would be lost. It was not acknowledged, and comes again."},
	{"worker.after-claim", "worker.Worker.tryAccept", "An attempt is claimed, and the worker does not know it after a restart: its job would run for ever on nothing. The lease expires and is fenced, and the next attempt begins."},
	{"worker.after-journal", "worker.Worker.tryAccept", "An attempt is claimed and in the journal, and its message was not acknowledged: it would run twice. Whoever gets the message again finds the lease claimed, and forgets it."},
	{"worker.after-ack", "worker.Worker.accept", "The message is gone, and nothing runs. The journal says that the attempt was claimed: the restarted worker gives it back."},
	{"worker.between-code-and-inputs", "worker/staging.Area.prepare", "Staging is half laid out: a container would see half of its inputs. Staging is made from nothing by each attempt, and that of no journal entry is swept."},
	{"worker.after-stage", "worker.attempt.start", "Staging is whole, overlay mounted, and nothing runs: the mount would stay. The attempt is given back, its mount and its staging removed."},
	{"worker.before-start", "worker.attempt.start", "The journal says that a container was started, and there is none: the attempt would wait for it for ever. No container means that the attempt is given back."},
	{"worker.between-create-and-start", "worker/docker.box.start", "A container was made and does not run: waiting for its end would last for ever. One that never ran counts as a fault of ours, and is removed."},
	{"worker.after-start", "worker.attempt.start", "A container runs, and no process knows: its work would be lost, or done twice at once. It is found by its labels and its journal entry, and followed again."},
	{"worker.before-renewal", "worker.hold.beat", "A lease is not renewed while its container runs: the attempt would be lost with its worker's restart. The next process of the worker revives the lease, as long as nobody has fenced it."},
	{"worker.after-chunk", "worker.logPump.flush", "A piece of the log was published, and not noted as published: it would be doubled after a restart. Each piece says where in the log it begins, and is stored once."},
	{"worker.after-exit", "worker.attempt.run", "A container has ended, and nobody has listed its files. It is not removed before they are handed over: the restarted worker reads its end and its log again."},
	{"worker.after-inspect", "worker.attempt.handOver", "Files are listed, and nothing durable says so. They are listed again."},
	{"worker.after-run-before-publish", "worker.attempt.handOver", "The list of files is in the journal, and the persister was not told: days of work would lie in staging. The restarted worker hands it over."},
	{"worker.after-publish", "worker.attempt.handOver", "The persister was told, and the lease is still held: the files would be handed over twice. The second message finds the commit, and changes nothing."},
	{"worker.after-release", "worker.attempt.handOver", "The lease is released, and the container and its mount are still there. The restarted worker takes them away."},
	{"worker.before-give-up", "worker.attempt.fail", "An attempt has failed by a fault of ours, its container is gone, and the planner may not know. It is given back once more by the restarted worker; if that never comes, its lease expires."},
	{"worker.after-verdict", "worker.Worker.conclude", "The files are persisted, and staging is still there: it would fill the disk. The restarted worker hands the list over again, and is answered again."},
	{"worker.after-staging-removed", "worker.Worker.clear", "Staging is gone, and the journal still speaks of it. It is handed over again, is answered from the commit, and needs no file."},
	{"worker.before-resume", "worker.Worker.resume", "A restarted worker dies while it takes up what an earlier one left. Nothing is changed before the engine was asked: the next one begins as it did."},

	{"persister.after-take", "persister.Persister.handle", "A files message is being handled, and was not acknowledged. It comes again."},
	{"persister.between-copies", "persister/disk.draft.copyAll", "Some files are copied. They have temporary names, and the next process drops them."},
	{"persister.after-copy", "persister/disk.draft.Copy", "All but large files are copied and none is durable. They have temporary names, and the next process drops them."},
	{"persister.after-share", "persister/disk.draft.share", "The copies for the other tier are made, too. They have temporary names, and the next process drops them."},
	{"persister.before-commit", "persister/disk.draft.publish", "Everything is durable, and the attempt has not won: it must not become visible. Without the commit the next process drops it."},
	{"persister.after-commit", "persister/disk.draft.publish", "The attempt has won, and nothing is visible: a job would have succeeded without files. The plan lies beside the copies, and the next process carries it out."},
	{"persister.after-journal", "persister/disk.Store.carryOut", "The plan is in the journal, and no step is done. The next process does them before anything else in the workspace."},
	{"persister.between-removals", "persister/disk.Store.apply", "Old files are gone and the new ones are not there: half of a result would be visible. Each step can be done again."},
	{"persister.between-renames", "persister/disk.Store.apply", "Some files are visible and the others are not. Each step can be done again."},
	{"persister.before-manifest", "persister/disk.Store.apply", "All files are visible, and the manifest speaks of the old ones. It comes last, as another step that can be done again."},
	{"persister.between-manifests", "persister/disk.Store.apply", "One tier's manifest is new and the other's is old. Each step can be done again."},
	{"persister.before-done", "persister/disk.Store.finish", "All is done, and the journal still has the plan. Its steps can be done again."},
	{"persister.after-done", "persister/disk.Store.finish", "The journal is empty, and temporary folders are left. They are dropped."},
	{"persister.between-records", "persister/disk.Store.keep", "A losing attempt's record is half stored. Its message was not acknowledged, and the record is written again."},
	{"persister.before-verdict", "persister.Persister.handle", "The files are visible, and nobody knows. The message comes again, finds the commit, and the verdict is published."},

	{"jetstream.before-publish", "jetstream.Conn.publish", "A message or a register's value is about to be sent. With no answer it is sent again; a write that happened all the same is told apart by reading."},
	{"jetstream.after-publish", "jetstream.Conn.publish", "A message or a register's value is stored, and its sender does not know. Every step of docs/protocol.md can be repeated."},
	{"jetstream.before-ack", "jetstream.Queue.process", "A message is wholly processed, and not acknowledged. It comes again and changes nothing."},
	{"jetstream.after-park", "jetstream.Queue.settle", "A message is in the dead letters, and still in its queue. It comes again, and the second letter is known by its id."},
	{"jetstream.after-put-back", "jetstream.Conn.RetryDead", "A dead letter was put back, and is still there. Put back once more, it is known by its id."},
}

// Marks in docs/reliability.md between which List stands.
const (
	ListBegins = "<!-- fault points: written by `make docs` -->\n"
	ListEnds   = "<!-- end of fault points -->\n"
)

// List returns the table in Markdown.
func List() string {
	var b strings.Builder
	b.WriteString("| fault point | what would be lost, and what keeps it |\n| --- | --- |\n")
	for _, p := range Points {
		fmt.Fprintf(&b, "| `%s` | %s |\n", p.Name, p.Lost)
	}
	return b.String()
}

// Insert replaces the list within a document.
func Insert(document string) (string, error) {
	before, rest, begins := strings.Cut(document, ListBegins)
	_, after, ends := strings.Cut(rest, ListEnds)
	if !begins || !ends {
		return "", fmt.Errorf("the document lacks the lines %q and %q", strings.TrimSpace(ListBegins), strings.TrimSpace(ListEnds))
	}
	return before + ListBegins + List() + ListEnds + after, nil
}
