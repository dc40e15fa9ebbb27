package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"

	"github.com/rogpeppe/go-internal/testscript"
)

// made counts what scripts make on the engine, which others may use as well.
var made atomic.Int64

// unique names something on the engine that is this process's alone.
func unique(what string) string {
	return fmt.Sprintf("e2e-%s-%d-%d", what, os.Getpid(), made.Add(1))
}

// makeNetwork makes a network of the engine, without a way out, and sets a
// variable to its name: network NAME. It is removed when the script ends.
func makeNetwork(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: network NAME")
	}
	name := unique("network")
	engine(ts, "network", "create", "--internal", name)
	ts.Defer(func() { engine(ts, "network", "rm", name) })
	ts.Setenv(args[0], name)
}

// makeDatabase starts a stand-in for a backend's database in a network: it says
// whose rows it has to whoever reaches its port 5432. It sets a variable to its
// address: database NETWORK BACKEND NAME
func makeDatabase(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: database NETWORK BACKEND NAME")
	}
	name := unique("database")
	engine(ts, "run", "-d", "--name", name, "--network", args[0], prefix+"sh:v1", "-c", `exec nc -ll -p 5432 -e /bin/echo "rows of $1"`, "database", args[1])
	ts.Defer(func() { engine(ts, "rm", "-f", name) })
	ts.Setenv(args[2], engine(ts, "inspect", "--format", `{{(index .NetworkSettings.Networks "`+args[0]+`").IPAddress}}`, name))
}

// engine runs docker, and returns what it prints.
func engine(ts *testscript.TestScript, args ...string) string {
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		ts.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
