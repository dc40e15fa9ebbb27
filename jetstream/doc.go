// Package jetstream carries messages over NATS JetStream: the streams,
// consumers and registers that the fleet needs, publishing into them and
// receiving from them. It is the only package that imports nats.go and the
// server.
//
// # Rules
//
//   - A message is a dispatch, never a lock. Acks are not fenced: a stale
//     holder's ack removes the message from under the new one. So a worker
//     acknowledges as soon as the lease is claimed.
//   - Registers are read from the stream's leader and changed by
//     compare-and-set. Direct reads are off: with three replicas they gave an
//     old value or none in 18 of 100 reads after one's own write.
//   - Pulls are made with Next, one message each: Consume and Messages fetch
//     more than is asked for, at the latest after a reconnect. Reading where
//     nothing is taken away may ask for many.
//   - No call waits on a connection that is lost: it is broken off at once and
//     made again on the next one. Nothing is buffered while there is none, or a
//     write whose caller gave up would be sent all the same.
//   - Deduplication by id is forgotten for removed messages when the server
//     restarts. It saves work; the registers make things right.
//
// # What is on the server
//
// The table in topology.go; `sluice topology` prints it with the bounds of a
// fleet. Registers are streams named KV_..., so that `nats kv` reads them.
//
//	SLUICE_REQUESTS    requests and cancellations, in one order; consumer planner, one at a time;
//	                   full of unread ones it refuses more, read ones stay while there is room
//	SLUICE_ACTIONS     work queue, one message a subject; a consumer worker-<backend>-<pool> each
//	SLUICE_FILES       work queue; a consumer persister-<backend> each
//	SLUICE_EVENTS      of workers and persisters; consumer planner; the persister's are repeated
//	                   on sluice.verdict.<backend>.…, where workers hear them
//	SLUICE_OUTCOMES    for job servers; consumer jobserver
//	SLUICE_LOGS        live logs, the oldest go first, one replica
//	SLUICE_DEAD        dead letters
//	SLUICE_ADVISORIES  the server's complaints, one replica; must stay empty
//	SLUICE_JOBS        records, plans, latest jobs; history 5
//	SLUICE_LEASES      who runs which attempt; an expired one leaves a marker for 7 days
//	SLUICE_COMMITS     whose files are a job's
//	SLUICE_FLEET       presence, settings, the active planner
//
// # Why the settings are so
//
//   - Each has its share of one store: a stream without a bound fills the store
//     and stops all others (error 10023).
//   - Work queues refuse what is new when they are full, which holds the planner
//     back, and have no time to live, which would delete what is being done.
//   - MaxDeliver is -1 and there is no BackOff: the one hides messages in the
//     queue for ever, the other makes delayed redeliveries late. Attempts are the
//     planner's to count, and what is given up is parked where people see it.
//   - A time to live is carried by every write of an expiring key, in whole
//     seconds: an update without one makes the key immortal.
//   - A message with the header Nats-Rollup empties a stream that allows it:
//     commits do not. Registers with markers of what expired have to.
//   - InactiveThreshold is 0: it deletes durable consumers, too, and the next
//     one counts deliveries from 1 again.
//   - MaxWaiting is 4096: at the default of 512 the next waiting slot is refused.
//
// # What it costs
//
// On two cores and a disk that syncs in 0.2 ms, with every write synced:
// BenchmarkPublish 0.22 ms, BenchmarkUpdate 0.23 ms; BenchmarkAll reads 100,000
// keys in 0.6 s, decoding included.
package jetstream
