package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// layers is who may import whom, of ours and of others: the table in
// CONTRIBUTING.md. The standard library is free to all but messages' rule:
// nothing else for it.
var layers = map[string]struct{ ours, others []string }{
	"messages":                {},
	"jetstream":               {ours: []string{"internal/fault", "messages"}, others: []string{"github.com/nats-io", "github.com/rs/zerolog", "golang.org/x/sync", "golang.org/x/sys"}},
	"jetstream/jetstreamtest": {ours: []string{"jetstream", "messages"}, others: []string{"github.com/rs/zerolog"}},
	"planner/project":         {others: []string{"gopkg.in/yaml.v3"}},
	"planner":                 {ours: []string{"internal/fault", "messages", "planner/project"}, others: []string{"github.com/rs/zerolog", "golang.org/x/sync"}},
	"worker/staging":          {ours: []string{"internal/fault", "internal/spread", "messages"}, others: []string{"github.com/rs/zerolog", "golang.org/x/sync", "golang.org/x/sys"}},
	"worker":                  {ours: []string{"internal/fault", "messages", "worker/staging"}, others: []string{"github.com/rs/zerolog", "golang.org/x/sync", "golang.org/x/sys"}},
	"worker/docker":           {ours: []string{"internal/fault", "internal/spread", "messages", "worker", "worker/docker/waiter"}, others: []string{"github.com/docker", "github.com/containerd/errdefs", "github.com/rs/zerolog", "golang.org/x/sys"}},
	"worker/docker/waiter":    {},
	"worker/runtimetest":      {ours: []string{"messages", "worker"}, others: []string{"github.com/google/go-cmp"}},
	"persister":               {ours: []string{"internal/fault", "messages"}, others: []string{"github.com/bmatcuk/doublestar", "github.com/rs/zerolog", "golang.org/x/sync"}},
	"persister/disk":          {ours: []string{"internal/fault", "internal/spread", "messages", "persister"}, others: []string{"golang.org/x/sync", "golang.org/x/sys"}},
	"persister/storetest":     {ours: []string{"messages", "persister"}, others: []string{"github.com/google/go-cmp"}},
	"internal/git":            {others: []string{"golang.org/x/sync", "golang.org/x/sys"}},
	"internal/registry":       {},
	"internal/fault":          {},
	"internal/spread":         {others: []string{"golang.org/x/sys"}},
	"internal/needs":          {},
	"internal/fault/list":     {ours: []string{"internal/fault"}},
	"internal/bench":          {ours: []string{"jetstream", "messages", "persister", "worker", "worker/docker"}, others: []string{"github.com/rs/zerolog", "golang.org/x/sync", "golang.org/x/sys"}},
	"internal/progress":       {ours: []string{"messages"}},
	"internal/gateway":        {ours: []string{"messages"}, others: []string{"github.com/rs/zerolog"}},
	"internal/cli":            {ours: []string{"*"}, others: []string{"github.com/alecthomas/kong", "github.com/oklog/ulid", "github.com/rs/zerolog", "golang.org/x/sync", "golang.org/x/term"}},
	"deploy":                  {},
	"e2e":                     {ours: []string{"*"}},
	"e2e/chaos":               {ours: []string{"internal/fault", "jetstream", "messages"}, others: []string{"golang.org/x/sync"}},
	"e2e/reliability":         {ours: []string{"*"}},
	"":                        {ours: []string{"internal/cli"}},
}

// oneImporter are libraries that a single package may import, so that their
// successor is one package's change (docs/decisions).
var oneImporter = map[string][]string{
	"github.com/nats-io":            {"jetstream"},
	"github.com/docker/docker":      {"worker/docker"},
	"gopkg.in/yaml.v3":              {"planner/project"},
	"github.com/bmatcuk/doublestar": {"persister"},
	"github.com/alecthomas/kong":    {"internal/cli"},
}

// TestLayers reads the real import graph.
func TestLayers(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		name := strings.TrimPrefix(strings.TrimPrefix(pkg.ImportPath, "sluice"), "/")
		rule, known := layers[name]
		if !known {
			t.Errorf("package %s is in no layer: add it to the table here and in CONTRIBUTING.md", pkg.ImportPath)
			continue
		}
		for _, path := range pkg.Imports {
			if ours, inside := strings.CutPrefix(path, "sluice/"); inside {
				if !slices.Contains(rule.ours, ours) && !slices.Contains(rule.ours, "*") {
					t.Errorf("%s imports %s, which its layer may not", pkg.ImportPath, path)
				}
				continue
			}
			if !strings.Contains(strings.Split(path, "/")[0], ".") {
				continue // the standard library
			}
			if !slices.ContainsFunc(rule.others, func(prefix string) bool { return strings.HasPrefix(path, prefix) }) {
				t.Errorf("%s imports %s, which its layer may not", pkg.ImportPath, path)
			}
			for library, importers := range oneImporter {
				if strings.HasPrefix(path, library) && !slices.Contains(importers, name) {
					t.Errorf("%s imports %s; only %v may", pkg.ImportPath, path, importers)
				}
			}
		}
	}
	if seen < 10 {
		t.Errorf("go list named %d packages; the test looks in the wrong place", seen)
	}
}
