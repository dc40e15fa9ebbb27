// Package messages is the vocabulary of the fleet: every value that crosses a
// process boundary, the subject it travels on or the key it is kept under, and
// the rules that make it valid. It imports nothing but the standard library.
//
// # Life of a job
//
//	job server ── Request, Cancel ──▶ planner ── Action ──▶ worker ── Files ──▶ persister
//	     ▲                            │  ▲ ▲                  │                     │
//	     └───────── Outcome ──────────┘  │ └── WorkerEvent ───┘                     │
//	                                     └──────────────── PersisterEvent ──────────┘
//
// A message is a dispatch or a hint: it may come late, twice or never. Truth is
// kept in registers that change only by compare-and-set: [Job] (written by the
// planner), [Lease] (claimed by a worker, fenced by the planner), [Commit]
// (created once, by the persister or as the planner's tombstone) and the
// fleet's [Presence], [Setting] and [Leader].
//
// # Subjects
//
//	sluice.request.<backend>.<workspace>                              Request
//	sluice.cancel.<backend>.<workspace>                               Cancel
//	sluice.action.<backend>.<pool>.<workspace>.<job>                  Action
//	sluice.files.<backend>.<workspace>.<job>                          Files
//	sluice.event.worker.<backend>.<workspace>.<job>.<attempt>.<stage> WorkerEvent
//	sluice.event.persister.<backend>.<workspace>.<job>.<verdict>      PersisterEvent
//	sluice.outcome.<backend>.<request>                                Outcome
//	sluice.log.<backend>.<job>.<attempt>                              LogChunk
//	sluice.dead.<backend>.<workspace>.<job>                           the original bytes, see DeadHeader
//	sluice.control.<backend>.<worker>                                 Control
//
// # Versions
//
// A payload is JSON with a major version, "schema". Unknown fields are ignored,
// so that neighbouring versions of the fleet run together. A missing or newer
// major version is refused with a reason. testdata/v1 holds one golden file a
// type: the compatibility contract.
package messages
