//go:build !amd64

package waiter

import (
	"fmt"
	"runtime"
)

// Program reports that there is none for this kind of processor.
func Program() ([]byte, error) {
	return nil, fmt.Errorf("the program that waits in containers is not written for %s", runtime.GOARCH)
}
