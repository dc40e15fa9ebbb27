// Package docker runs containers with the Docker Engine. It is the only
// package that imports the Engine's client.
//
// Order of calls, found by experiment: create, register the wait for the next
// exit, start. A wait that is registered after the start may hang for ever,
// and AutoRemove loses exit codes; it is never used.
package docker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/rs/zerolog"

	"sluice/messages"
	"sluice/worker"
)

// A Config says how containers are made. The zero value of a field means the
// engine's or this package's default.
type Config struct {
	Worker      string        // the worker's name: only its containers are ours
	Host        string        // of the engine; empty means DOCKER_HOST, or the usual socket
	ImagePrefix string        // put before image names, such as "ghcr.io/opensafely-core/"
	Pull        bool          // ask the registry for images that are not here
	Timeout     time.Duration // of one call to the engine
	PullTimeout time.Duration
	TmpSize     int64  // bytes of /tmp, which counts as memory
	Parked      int    // most containers to start in advance for each kind that was asked for lately; 0 for none
	Dir         string // the worker's own: files that are mounted into each container, and the id that its containers carry
	Log         zerolog.Logger
}

// DefaultConfig returns a complete configuration for a worker of a name.
func DefaultConfig(name, dir string) Config {
	return Config{Worker: name, Pull: true, Timeout: time.Minute, PullTimeout: 20 * time.Minute, TmpSize: 1 << 30, Dir: dir}
}

// A Runtime runs containers.
type Runtime struct {
	cfg   Config
	cli   *client.Client
	id    string // of the worker's folder; empty without one
	hosts string // a file with nothing but localhost

	parking *parking // nil where nothing is started in advance

	life context.Context // until Close
	end  context.CancelFunc
	all  sync.WaitGroup // what goes on in the background for containers that run

	mu     sync.Mutex
	ncpu   float64                 // of the engine's machine; 0 until it was asked
	images map[string]imageFacts   // by digest
	begun  map[worker.Attempt]bool // that may have a container; true: that was handed to one which waited
}

// An imageFacts is what an image says that does not change: its digest stands
// for its contents.
type imageFacts struct {
	id              string
	entrypoint, cmd []string
	env             []string
}

// maxImages bounds what is remembered.
const maxImages = 256

var _ worker.Runtime = (*Runtime)(nil)

// New returns a runtime; it does not talk to the engine yet.
func New(cfg Config) (*Runtime, error) {
	if cfg.Timeout <= 0 {
		cfg.Timeout = time.Minute
	}
	if cfg.PullTimeout <= 0 {
		cfg.PullTimeout = 20 * time.Minute
	}
	if cfg.TmpSize <= 0 {
		cfg.TmpSize = 1 << 30
	}
	// Not client.FromEnv: a version that is set there ends the negotiation.
	opts := []client.Opt{client.WithTLSClientConfigFromEnv(), client.WithHostFromEnv(), client.WithAPIVersionNegotiation()}
	if cfg.Host != "" {
		opts = append(opts, client.WithHost(cfg.Host))
	}
	cli, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("open the Docker Engine: %w", err)
	}
	r := &Runtime{cfg: cfg, cli: cli, images: map[string]imageFacts{}, begun: map[worker.Attempt]bool{}}
	r.life, r.end = context.WithCancel(context.Background())
	if cfg.Dir != "" {
		// A container without a network gets no /etc/hosts from the engine.
		r.hosts = filepath.Join(cfg.Dir, "hosts")
		if err := writeHosts(r.hosts); err != nil {
			return nil, errors.Join(fmt.Errorf("write the containers' hosts file: %w", err), cli.Close())
		}
		if r.id, err = instance(cfg.Dir); err != nil {
			return nil, errors.Join(err, cli.Close())
		}
	}
	if cfg.Parked > 0 && cfg.Dir != "" {
		if r.parking, err = openParking(r); err != nil {
			cfg.Log.Info().Err(err).Msg("no container is started in advance")
		}
	}
	return r, nil
}

// writeHosts leaves a file alone that is right: containers may have it mounted.
func writeHosts(path string) error {
	const hosts = "127.0.0.1 localhost\n::1 localhost\n"
	if have, err := os.ReadFile(path); err == nil && string(have) == hosts {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(hosts), 0o644) //nolint:gosec // read inside containers
}

// Drain takes away what was started in advance; nothing more will be.
func (r *Runtime) Drain() {
	if r.parking != nil {
		r.parking.drain()
	}
}

// Close drains and frees the connections.
func (r *Runtime) Close() error {
	r.end()
	r.all.Wait()
	var err error
	if r.parking != nil {
		err = r.parking.close()
	}
	return errors.Join(err, r.cli.Close())
}

// ErrAway is wrapped when the engine does not answer: it may be started later.
var ErrAway = errors.New("the Docker Engine does not answer")

// away is an error that says so in its own words.
type away struct{ error }

func (a away) Unwrap() []error { return []error{ErrAway, a.error} }

// Check reports in one sentence why no container can be run.
func (r *Runtime) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := r.cli.Ping(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("the Docker Engine at %s does not let this user in: add the user to the docker group, or use sudo", r.cli.DaemonHost())
	case client.IsErrConnectionFailed(err):
		return away{fmt.Errorf("no Docker Engine answers at %s: start it (systemctl start docker), or install it (https://docs.docker.com/engine/install/, Debian: apt-get install docker.io)", r.cli.DaemonHost())}
	}
	return away{fmt.Errorf("ask the Docker Engine at %s: %w", r.cli.DaemonHost(), err)}
}

// Image makes sure that an image can be run and returns its digest: the
// registry's, or the image's id where it never had one. A messages.Failure says
// that there is no such image.
func (r *Runtime) Image(ctx context.Context, name string) (string, error) {
	ref := r.ref(name)
	digest, err := r.find(ctx, ref)
	switch {
	case err == nil:
		return digest, nil
	case errdefs.IsInvalidArgument(err):
		return "", noImage(name, ref, "that is not the name of an image")
	case !errdefs.IsNotFound(err):
		return "", err
	}
	if !r.cfg.Pull {
		return "", noImage(name, ref, "it is not on this worker, and pulling is switched off")
	}
	if err := r.pull(ctx, ref); err != nil {
		return "", r.explainPull(name, ref, err)
	}
	return r.find(ctx, ref)
}

func (r *Runtime) ref(name string) string {
	if strings.Contains(name, "/") {
		return name // with a registry or an organisation of its own
	}
	return r.cfg.ImagePrefix + name
}

func (r *Runtime) find(ctx context.Context, ref string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Timeout)
	defer cancel()
	found, err := r.cli.ImageInspect(ctx, ref)
	if err != nil {
		return "", fmt.Errorf("look for image %s: %w", ref, err)
	}
	digest := found.ID
	for _, d := range found.RepoDigests {
		if _, registered, ok := strings.Cut(d, "@"); ok {
			digest = registered
			break
		}
	}
	facts := imageFacts{id: found.ID}
	if c := found.Config; c != nil {
		facts.entrypoint, facts.cmd, facts.env = c.Entrypoint, c.Cmd, c.Env
	}
	r.mu.Lock()
	if len(r.images) >= maxImages {
		clear(r.images)
	}
	r.images[digest] = facts
	r.mu.Unlock()
	if r.parking != nil {
		r.parking.moved(ref, found.ID)
	}
	return digest, nil
}

func (r *Runtime) pull(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.PullTimeout)
	defer cancel()
	r.cfg.Log.Info().Str("image", ref).Msg("pulling image")
	progress, err := r.cli.ImagePull(ctx, ref, image.PullOptions{})
	if err != nil {
		return err
	}
	defer progress.Close()
	return readProgress(progress, func(line string) { r.cfg.Log.Debug().Str("image", ref).Msg(line) })
}

// explainPull tells an image that does not exist from a registry that cannot be
// reached. Registries say so in words only.
func (r *Runtime) explainPull(name, ref string, err error) error {
	text := strings.ToLower(err.Error())
	switch {
	case client.IsErrConnectionFailed(err):
	case errdefs.IsNotFound(err), strings.Contains(text, "manifest unknown"), strings.Contains(text, "name unknown"), strings.Contains(text, "repository does not exist"):
		return noImage(name, ref, "the registry has none of that name and version")
	case strings.Contains(text, "access denied"), strings.Contains(text, "resource is denied"), strings.HasSuffix(text, ": denied"):
		return noImage(name, ref, "the registry has none of that name and version, or does not let this worker have it")
	case strings.Contains(text, "invalid reference format"):
		return noImage(name, ref, "that is not the name of an image")
	}
	return fmt.Errorf("pull image %s: %w", ref, err)
}

func noImage(name, ref, why string) error {
	full := ""
	if ref != name {
		full = " (" + ref + ")"
	}
	return messages.Failf(messages.JobError, "image %s%s is not available: %s; check its name and version in project.yaml", messages.Quote(name), full, why)
}
