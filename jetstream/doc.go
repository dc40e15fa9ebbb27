// Package jetstream carries messages over NATS JetStream: the streams,
// consumers and registers that the fleet needs, publishing into them and
// receiving from them. It is the only package that imports nats.go and the
// server.
//
// What each stream and register is for, and why its settings are so, stands in
// topology.go. Three rules hold everywhere:
//
//   - A message is a dispatch, never a lock. Acks are not fenced: a stale
//     holder's ack removes the message from under the new one. So a worker
//     acknowledges as soon as the lease is claimed.
//   - Registers are read from the stream's leader and changed by
//     compare-and-set. Direct reads are off: with three replicas they gave an
//     old value or none in 18 of 100 reads after one's own write.
//   - Pulls are made with Next, one message each: Consume and Messages fetch
//     more than is asked for, at the latest after a reconnect.
package jetstream
