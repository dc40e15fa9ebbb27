// Package worker runs actions in containers, as many at once as it has slots.
//
// An action that it gets from its inbox is a dispatch. The worker claims the
// lease of the attempt, acknowledges, keeps a journal entry on its own disk,
// and from then on holds nothing but the lease, which it renews whatever the
// container does:
//
//	take → claim → journal → stage → run → inspect → publish → (verdict) → clean up
//
// A worker that is killed leaves the container running. The next one of the
// same name finds it by its labels and the journal, renews or revives the
// lease, follows its log again, and goes on.
//
// To stop a worker is not to cancel its attempts: it takes nothing new and
// waits for what is in hand. When it is told to leave, the containers stay.
package worker
