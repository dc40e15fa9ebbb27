//go:build tools

// Package tools pins the development tools, apart from the product's module
// graph. `make tools` builds them into bin/.
package tools

import (
	_ "github.com/nats-io/nats-server/v2"
	_ "github.com/nats-io/natscli/nats"
	_ "honnef.co/go/tools/cmd/staticcheck"
	_ "mvdan.cc/gofumpt"
)
