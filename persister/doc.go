// Package persister is the service that moves new files into long-term
// storage. It is the only writer of the tiers (I1): it reads which files an
// attempt left in staging, applies the rules of the planner's record to that
// list (I6), checks what is moderately sensitive, and makes all matched files
// of the attempt that wins the job's commit visible, or none (I3).
//
//	Files ──▶ match ──▶ copy, verify, check ──▶ commit (first wins) ──▶ journal ──▶ tiers
//	                                              └─ lost: copies dropped, log kept
//
// Matching, checks and the workspace's manifest are pure. Everything that
// touches files is behind Store; package persister/disk is the one for file
// systems.
package persister
