package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/messages"
)

// TestDatabaseEnvironment: what a worker's environment says of databases, and
// no password in an error.
func TestDatabaseEnvironment(t *testing.T) {
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, []byte("a key\nof lines\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range append(databaseVariables, "FULL_DATABASE_URL", "SLICE_DATABASE_URL", "DUMMY_DATABASE_URL", "PRESTO_TLS_CERT_PATH") {
		t.Setenv(name, "")
	}
	t.Setenv("TEMP_DATABASE_NAME", "scratch")
	t.Setenv("PRESTO_TLS_KEY_PATH", key)
	t.Setenv("EMIS_ORGANISATION_HASH", "hash")
	t.Setenv("FULL_DATABASE_URL", "mssql://user:SECRET@127.0.0.1/full")
	t.Setenv("SLICE_DATABASE_URL", "mssql://user:SECRET@nowhere.invalid/slice")
	got, err := databaseEnv()
	want := []messages.EnvVar{{Name: "TEMP_DATABASE_NAME", Value: "scratch"}, {Name: "PRESTO_TLS_KEY", Value: "a key\nof lines\n"}, {Name: "EMIS_ORGANISATION_HASH", Value: "hash"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("databaseEnv: %v (-want +got):\n%s", err, diff)
	}
	list := databases()
	if list["default"] == "" || list["full"] != list["default"] || list["slice"] == "" || len(list) != 3 {
		t.Errorf("databases: %v", list)
	}
	at, lost := "192.0.2.7", errors.New("no such host")
	of := func(list map[string]string, named ...string) *databaseHosts {
		return &databaseHosts{databases: list, named: named, lookup: func(context.Context, string) ([]string, error) {
			if at == "" {
				return nil, lost
			}
			return []string{at}, nil
		}}
	}
	named := of(list, "nowhere.invalid:192.0.2.1")
	if diff := cmp.Diff([]string{"nowhere.invalid:192.0.2.1"}, named.now(t.Context())); diff != "" {
		t.Errorf("of a machine that is named: %s", diff)
	}
	// A machine that moves is found where it is now; one that cannot be found, where it was.
	moving := of(list)
	for _, step := range []struct{ at, want string }{{"192.0.2.7", "192.0.2.7"}, {"192.0.2.8", "192.0.2.8"}, {"", "192.0.2.8"}} {
		at = step.at
		if diff := cmp.Diff([]string{"nowhere.invalid:" + step.want}, moving.now(t.Context())); diff != "" {
			t.Errorf("with the machine at %q: %s", step.at, diff)
		}
	}
	t.Setenv("SLICE_DATABASE_URL", "mssql://user:SECRET@[bad/slice")
	if err := of(databases()).look(t.Context()); err != nil {
		t.Errorf("of a URL of another form: %v", err)
	}
	if err := of(list).look(t.Context()); err == nil || strings.Contains(err.Error(), "SECRET") || !strings.Contains(err.Error(), "--db-hosts nowhere.invalid:ADDRESS") {
		t.Errorf("of a name that is nowhere: %v", err)
	}
}

// TestReadSmall: a file that is larger than any of settings is refused, and no
// more of it is read.
func TestReadSmall(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "settings")
	for _, tc := range []struct {
		size int64
		ok   bool
	}{{0, true}, {maxSmall, true}, {maxSmall + 1, false}, {1 << 40, false}} {
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(f.Truncate(tc.size), f.Close()); err != nil {
			t.Fatal(err)
		}
		data, err := readSmall(path)
		if tc.ok && (err != nil || int64(len(data)) != tc.size) || !tc.ok && (err == nil || !strings.Contains(err.Error(), "larger than 1 MiB")) {
			t.Errorf("%d bytes: read %d, %v", tc.size, len(data), err)
		}
	}
}
