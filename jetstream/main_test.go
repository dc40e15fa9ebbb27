package jetstream_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if config := os.Getenv(serverConfig); config != "" {
		serveAlone(config)
		return
	}
	goleak.VerifyTestMain(m)
}
