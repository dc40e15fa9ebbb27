package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// faultsBinary builds sluice with fault points, once for all tests that ask
// for it, as sluice-faults in a folder of its own (internal/fault).
var faultsBinary = sync.OnceValues(func() (path string, err error) {
	dir, err := os.MkdirTemp("", "sluice-faults")
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "sluice-faults")
	if out, err := exec.Command("go", "build", "-tags=faults", "-o", path, "..").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build sluice with fault points: %w\n%s", err, out)
	}
	built = dir
	return path, nil
})

// built is the folder of the build, which is removed when all tests are done.
var built string
