package messages

// Headers of a dead letter. Its payload is the original bytes, and the
// original headers stay beside these.
const (
	DeadReason  = "Sluice-Reason"  // one sentence
	DeadSubject = "Sluice-Subject" // where it was published
	DeadStream  = "Sluice-Stream"  // where it was kept
	DeadBy      = "Sluice-By"      // who gave it up: planner, worker NAME, persister
	DeadAt      = "Sluice-At"      // RFC 3339
	// Where in its stream it was. A request or a cancellation is put back only if
	// it is still there.
	DeadSequence = "Sluice-Sequence"
	// A message with which the server's max_payload leaves no room for these
	// headers is cut. The whole of it is at this sequence of its stream, as long
	// as that keeps it.
	DeadCut = "Sluice-Cut"
)
