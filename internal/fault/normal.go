//go:build !faults

package fault

import "time"

// Built reports whether this build has fault points.
const Built = false

// At marks a fault point. It does nothing.
func At(string) {}

// OnCut takes the function that loses the connection to NATS for a time. It
// is never called.
func OnCut(func(time.Duration)) {}
