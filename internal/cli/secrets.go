package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/messages"
)

// maxSmall bounds a file that an operator names in settings, in bytes.
const maxSmall = 1 << 20

// readSmall reads such a file.
func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(data) > maxSmall {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxSmall>>20)
	}
	return data, err
}

// databaseVariables are what database actions get of a worker's environment
// beside the URL of their database (agent/main.py, inject_db_secrets).
var databaseVariables = []string{"TEMP_DATABASE_NAME", "PRESTO_TLS_KEY", "PRESTO_TLS_CERT", "EMIS_ORGANISATION_HASH"}

// databaseEnv reads them. Those that are texts of many lines may be in files:
// PRESTO_TLS_KEY_PATH and PRESTO_TLS_CERT_PATH.
func databaseEnv() (env []messages.EnvVar, err error) {
	for _, name := range databaseVariables {
		value := os.Getenv(name)
		if path := os.Getenv(name + "_PATH"); value == "" && path != "" && strings.HasPrefix(name, "PRESTO_") {
			data, err := readSmall(path)
			if err != nil {
				return nil, fmt.Errorf("%s_PATH: %w", name, err)
			}
			value = string(data)
		}
		if value != "" {
			env = append(env, messages.EnvVar{Name: name, Value: value})
		}
	}
	return env, nil
}

// databases reads the URL of each database, by the name that requests use.
func databases() map[string]string {
	list := map[string]string{}
	for dataset, variable := range map[string]string{"default": "FULL_DATABASE_URL", "full": "FULL_DATABASE_URL", "slice": "SLICE_DATABASE_URL", "dummy": "DUMMY_DATABASE_URL"} {
		if value := os.Getenv(variable); value != "" {
			list[dataset] = value
		}
	}
	return list
}

// databaseHosts are the addresses of the databases' machines, beside those that
// are named: in the network of database actions no server answers for names.
type databaseHosts struct {
	databases map[string]string
	named     []string
	lookup    func(ctx context.Context, host string) ([]string, error)

	mu    sync.Mutex
	hosts []string
	found map[string]string // the last address of each machine
}

// hostsWait bounds looking up all machines.
const hostsWait = 5 * time.Second

// now looks up where the databases are for one more action: a machine may have
// moved. One that cannot be found now is where it was.
func (d *databaseHosts) now(ctx context.Context) []string {
	_ = d.look(ctx) // what cannot be found is said at the start
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.hosts)
}

// look finds the machines, and says which were never found. A URL is never part
// of an error: it has a password.
func (d *databaseHosts) look(ctx context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, hostsWait)
	defer cancel()
	known, found := map[string]bool{}, map[string]string{}
	for _, h := range d.named {
		name, _, _ := strings.Cut(h, ":")
		known[name] = true
	}
	hosts := slices.Clone(d.named)
	var errs []error
	for _, dataset := range sortedKeys(d.databases) {
		u, err := url.Parse(d.databases[dataset])
		if err != nil || u.Hostname() == "" {
			continue // not of that form: the action makes what it can of it
		}
		host := u.Hostname()
		if known[host] || net.ParseIP(host) != nil {
			continue
		}
		known[host] = true
		addresses, err := d.lookup(ctx, host)
		switch {
		case err == nil && len(addresses) > 0:
			found[host] = addresses[0]
		case d.found[host] != "":
			found[host] = d.found[host]
		default:
			errs = append(errs, fmt.Errorf("the address of %s, the machine of database %s, cannot be found: name it with --db-hosts %s:ADDRESS", messages.Quote(host), dataset, host))
			continue
		}
		hosts = append(hosts, host+":"+found[host])
	}
	d.hosts, d.found = hosts, found
	return errors.Join(errs...)
}

// imageEnv are variables for actions of some images only, by the beginning of
// the image's name.
func imageEnv() map[string][]messages.EnvVar {
	if licence := os.Getenv("STATA_LICENSE"); licence != "" {
		return map[string][]messages.EnvVar{"stata-mp": {{Name: "STATA_LICENSE", Value: licence}}}
	}
	return nil
}
