// Chaos runs a whole fleet twice over the same seeded studies: once in peace,
// once in a storm of faults drawn from the same seed. Then it compares what
// became of every job, and every byte of the tiers.
//
//	make chaos                                   a seed of its own, which it prints
//	make chaos SEED=7 JOBS=100 BUDGET=5m         that seed again
//
// The fleet is real processes of the built binary (with fault points), three
// NATS servers with the configuration of deploy/, two planners, three workers
// and two persisters of one backend, real containers and real files. Each
// service reaches the servers over a link that can be cut or stalled. At fault
// points it dies, loses its connection, or hangs until it is killed. Each tier is
// a small file system of its own, where this user may mount, and is filled to
// its last byte for seconds.
//
// Two faults are left out, as they change the right end of a job: staging that is
// full under an action that writes, and an image that is gone. Both are the
// action's own failure: see docs/reliability.md.
//
// After the storm everything is healed, and then must hold:
//
//   - each job has one final outcome, the one that its study says, told by one
//     message, which may come twice;
//   - no more attempts were lost than there are slots of workers that faults
//     struck: what strikes a planner, a persister or a tier costs none;
//   - the tiers and their manifests are byte for byte those of the calm run,
//     but for what normal.go lists;
//   - no staging, container, mount, journal entry or message is left, nothing
//     is in the dead letters, and the advisories are empty;
//   - no service has ended by itself, but at a fault point.
//
// A seed repeats the studies, the faults and their times; how they interleave
// with the fleet's own work it cannot repeat.
package main
