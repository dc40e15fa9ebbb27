// Package fault names the instants at which a process may die, hang or be cut
// off and leave something half done. The code calls At where each of them is:
//
//	if err := a.enter(phaseListed); err != nil { … }
//	fault.At("worker.after-run-before-publish")
//	if err := a.publish(files); err != nil { … }
//
// In a normal build At is empty and costs nothing. In a build with the tag
// faults, which is for tests only, the environment says what happens there:
//
//	SLUICE_FAULT=point=action[@n][,…]   at a point; @n: only at the n-th time that it is reached, the first without it
//	SLUICE_FAULT=random:SEED:PROBABILITY[:action]   at any point (action: die without it); PROBABILITY/n when one is reached for the n-th time
//	SLUICE_FAULT=trace   nothing but the note
//
//	die          SIGKILL to this process: nothing is cleaned up
//	hang         wait until <SLUICE_FAULT_DIR>/<point>.go is there; after two minutes the process ends
//	cut[:time]   lose the connection to NATS, and get none, for a time (default 3s); go on meanwhile
//
// Each time something happens at a point, and each time that one is reached
// under trace, its name is appended to <SLUICE_FAULT_DIR>/<point>.hit, if that
// variable is set.
//
// Points is the table of all of them. A test compares it with the source;
// docs/reliability.md has it as a list.
package fault

//go:generate go run ./list -write ../../docs/reliability.md
