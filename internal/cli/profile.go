//go:build profile

package cli

import (
	"net/http"
	_ "net/http/pprof"
	"os"
	"slices"
)

// A build with the tag profile serves Go's profiles on the address that
// SLUICE_PROFILE names, in the process whose command line has the word of
// SLUICE_PROFILE_ARG: for looking at hot paths, never for a fleet.
func init() {
	if address := os.Getenv("SLUICE_PROFILE"); address != "" && slices.Contains(os.Args, os.Getenv("SLUICE_PROFILE_ARG")) {
		go func() { _ = http.ListenAndServe(address, nil) }() //nolint:gosec // on a developer's machine
	}
}
