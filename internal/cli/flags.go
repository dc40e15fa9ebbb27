package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"sluice/internal/git"
	"sluice/jetstream"
	"sluice/messages"
	"sluice/persister/disk"
	"sluice/worker"
)

// natsFlags say how to reach the fleet's server.
type natsFlags struct {
	URL         string `name:"nats" help:"URL of the NATS server, or several, comma-separated." default:"nats://127.0.0.1:4222" env:"SLUICE_NATS_URL" group:"NATS"`
	Creds       string `name:"nats-creds" help:"Credentials file." type:"path" env:"SLUICE_NATS_CREDS" group:"NATS"`
	NKey        string `name:"nats-nkey" help:"File of an NKey seed." type:"path" env:"SLUICE_NATS_NKEY" group:"NATS"`
	User        string `name:"nats-user" help:"User name." env:"SLUICE_NATS_USER" group:"NATS"`
	Password    string `name:"nats-password" help:"Password; better set in the environment." env:"SLUICE_NATS_PASSWORD" group:"NATS"`
	CA          string `name:"nats-ca" help:"File of the authority that signed the server's certificate." type:"path" env:"SLUICE_NATS_CA" group:"NATS"`
	Cert        string `name:"nats-cert" help:"File of this client's certificate." type:"path" env:"SLUICE_NATS_CERT" group:"NATS"`
	Key         string `name:"nats-key" help:"File of this client's key." type:"path" env:"SLUICE_NATS_KEY" group:"NATS"`
	APIPrefix   string `name:"nats-api-prefix" help:"Prefix of the JetStream API, for an account that imports it." env:"SLUICE_NATS_API_PREFIX" group:"NATS"`
	InboxPrefix string `name:"nats-inbox-prefix" help:"Prefix of reply subjects." env:"SLUICE_NATS_INBOX_PREFIX" group:"NATS"`
}

// clientWait is how long a command that a person typed waits for the server.
const clientWait = 5 * time.Second

// connect reaches the server; a service waits for it until it is stopped.
func (f natsFlags) connect(ctx context.Context, name string, log zerolog.Logger) (*jetstream.Conn, error) {
	return jetstream.Connect(ctx, jetstream.Options{
		URL: f.URL, Name: name, Creds: f.Creds, NKey: f.NKey, User: f.User, Password: f.Password, CA: f.CA, Cert: f.Cert, Key: f.Key,
		APIPrefix: f.APIPrefix, InboxPrefix: f.InboxPrefix, Log: log,
	})
}

// client connects for a command that a person typed.
func (f natsFlags) client(a *app) (*jetstream.Conn, error) {
	ctx, cancel := context.WithTimeout(a.ctx, clientWait)
	defer cancel()
	c, err := f.connect(ctx, "sluice command", a.log.Level(zerolog.ErrorLevel))
	if err != nil {
		return nil, fmt.Errorf("%w\nIs the server running? `sluice up` starts a whole fleet; --nats or SLUICE_NATS_URL says where it is", err)
	}
	return c, nil
}

// gitFlags say from where code may come.
type gitFlags struct {
	Mirrors   string   `help:"Folder of the mirrors of repositories." type:"path" env:"SLUICE_MIRRORS" group:"Code"`
	Orgs      []string `name:"allowed-orgs" help:"GitHub organisations whose repositories may be run." default:"opensafely,opensafely-actions" env:"ALLOWED_GITHUB_ORGS" group:"Code"`
	Local     bool     `name:"allow-local-repos" help:"Take repositories that are paths on this machine." env:"ALLOW_LOCAL_GIT_REPOS" group:"Code"`
	Reusable  string   `name:"reusable-actions" help:"URL below which the repositories of reusable actions lie, such as https://github.com/opensafely-actions; without it, every name before a colon is an image." env:"SLUICE_REUSABLE_ACTIONS" group:"Code"`
	Images    []string `name:"images" help:"With reusable actions: names that are images all the same." default:"${images}" env:"SLUICE_IMAGES" group:"Code"`
	Proxy     string   `name:"github-proxy" help:"Domain that stands in for github.com." env:"GITHUB_PROXY_DOMAIN" group:"Code"`
	TokenFile string   `name:"repo-token-file" help:"File of the token for private repositories; PRIVATE_REPO_ACCESS_TOKEN has it otherwise." type:"path" env:"SLUICE_REPO_TOKEN_FILE" group:"Code"`
}

// source reads repositories, and tells a proxy's log who asks.
func (f gitFlags) source(dir, folder, user string) *source {
	if f.Mirrors != "" {
		dir = f.Mirrors
	}
	mirrors := &git.Mirrors{Dir: dir, Rules: git.Rules{
		AllowedOrgs: f.Orgs, AllowLocal: f.Local, Proxy: f.Proxy, Token: os.Getenv("PRIVATE_REPO_ACCESS_TOKEN"), TokenFile: f.TokenFile, TokenUser: user,
	}}
	return &source{mirrors: mirrors, folder: folder, images: f.Images, reusable: f.Reusable}
}

// storageFlags say where files lie. Upstream's operators know the first two.
type storageFlags struct {
	High    string `help:"Base of the highly sensitive tier." type:"path" env:"HIGH_PRIVACY_STORAGE_BASE" group:"Storage"`
	Medium  string `help:"Base of the moderately sensitive tier." type:"path" env:"MEDIUM_PRIVACY_STORAGE_BASE" group:"Storage"`
	Staging string `help:"Folder in which attempts leave their files." type:"path" env:"SLUICE_STAGING" group:"Storage"`
	Archive string `help:"Folder of archived workspaces, as NAME.tar.gz, .tar.zstd or .tar.xz: their actions are refused; archives in the highly sensitive tier if none is named, and beside it if it is called workspaces." type:"path" env:"HIGH_PRIVACY_ARCHIVE_DIR" group:"Storage"`
	Group   string `help:"Group, by name or number, that may read staging and the tiers; that of this process if none is named." env:"SLUICE_GROUP" group:"Storage"`
}

// tierFlags say who may read what is kept.
type tierFlags struct {
	MediumGroup string   `help:"Group that may read the moderately sensitive tier, such as output checkers'; --group if none is named." env:"SLUICE_MEDIUM_GROUP" group:"Storage"`
	FileMode    fileMode `help:"Mode of files in the tiers; folders can be entered by those who may read." default:"0640" env:"SLUICE_FILE_MODE" group:"Storage"`
}

// keepFlags say what becomes of files that nobody asked for.
type keepFlags struct {
	FailedAside    bool `help:"Keep the files of a job that failed beside its log, and its workspace as it is." env:"SLUICE_FAILED_ASIDE" group:"Storage"`
	DeleteObsolete bool `help:"When an action succeeds, delete from the highly sensitive tier, too, what it no longer makes." env:"SLUICE_DELETE_OBSOLETE" group:"Storage"`
}

// under fills in what was left empty.
func (f storageFlags) under(dir string) storageFlags {
	or := func(s *string, name string) {
		if *s == "" {
			*s = filepath.Join(dir, name)
		}
	}
	or(&f.High, "high")
	or(&f.Medium, "medium")
	or(&f.Staging, "staging")
	return f
}

// archives are the folders of archived workspaces. Upstream's lie beside the
// folder of its workspaces, which is our base where a site has moved over.
func (f storageFlags) archives() []string {
	if f.Archive != "" {
		return []string{f.Archive}
	}
	list := []string{filepath.Join(f.High, "archives")}
	if parent, last := filepath.Split(filepath.Clean(f.High)); last == "workspaces" {
		list = append(list, filepath.Join(parent, "archives"))
	}
	return list
}

// disk is the configuration of the tiers.
func (f storageFlags) disk(t tierFlags) (c disk.Config, err error) {
	c = disk.Default(f.Staging, f.High, f.Medium)
	c.FileMode, c.DirMode, c.Archives = t.FileMode.file(), t.FileMode.dir(), f.archives()
	var medium error
	c.Group, err = groupID(f.Group)
	c.MediumGroup, medium = groupID(t.MediumGroup)
	return c, errors.Join(err, medium)
}

// require reports, all at once, the folders that must be named.
func (f storageFlags) require(medium bool) error {
	var errs []error
	for _, v := range []struct {
		value, flag, env string
		on               bool
	}{
		{f.High, "--high", "HIGH_PRIVACY_STORAGE_BASE", true},
		{f.Medium, "--medium", "MEDIUM_PRIVACY_STORAGE_BASE", medium},
		{f.Staging, "--staging", "SLUICE_STAGING", true},
	} {
		if v.on && v.value == "" {
			errs = append(errs, fmt.Errorf("set %s or %s: there is no default", v.flag, v.env))
		}
	}
	return errors.Join(errs...)
}

// workerFlags are how a worker runs containers.
type workerFlags struct {
	Slots       float64       `help:"Actions at once." default:"2" env:"SLUICE_SLOTS" group:"Worker"`
	DBSlots     float64       `name:"db-slots" help:"Database actions at once, in the pool db; 0 for none." default:"0" env:"SLUICE_DB_SLOTS" group:"Worker"`
	CPUs        float64       `help:"Processors of an action." default:"2" env:"DEFAULT_JOB_CPU_COUNT" group:"Worker"`
	Memory      byteSize      `help:"Memory of an action, such as 4G." default:"4G" env:"DEFAULT_JOB_MEMORY_LIMIT" group:"Worker"`
	Processes   int64         `help:"Processes of an action." default:"1024" env:"SLUICE_PROCESSES" group:"Worker"`
	Disk        byteSize      `help:"Bytes that an action may write." default:"100G" env:"SLUICE_DISK" group:"Worker"`
	TimeLimit   time.Duration `help:"Time that an action may take." default:"168h" env:"SLUICE_TIME_LIMIT" group:"Worker"`
	StopGrace   time.Duration `help:"Time between SIGTERM and SIGKILL." default:"10s" env:"SLUICE_STOP_GRACE" group:"Worker"`
	Drain       time.Duration `help:"Time to wait for running actions when told to stop, before leaving them to the next worker; 0 for no end." default:"0" env:"SLUICE_DRAIN" group:"Worker"`
	StageWait   time.Duration `help:"A stage of an action, such as preparing, that is over within this time is not told; 0 to tell each." default:"1s" env:"SLUICE_STAGE_WAIT" group:"Worker"`
	MinFree     byteSize      `help:"Free space in staging below which nothing is taken." default:"1G" env:"SLUICE_MIN_FREE" group:"Worker"`
	KeepFailed  time.Duration `help:"How long to keep in staging what an attempt left that a fault of ours ended, for people to look at; 0 for not at all. It goes first when space is short." default:"0" env:"SLUICE_KEEP_FAILED" group:"Worker"`
	KeepInputs  byteSize      `help:"Bytes of inputs to keep in staging for other actions that need the same; 0 for none." default:"8G" env:"SLUICE_KEEP_INPUTS" group:"Worker"`
	User        string        `help:"User and group of containers, uid:gid; the default is 10000:10000 for root and this user otherwise." env:"SLUICE_CONTAINER_USER" group:"Worker"`
	ImagePrefix string        `help:"Put before the names of images." default:"ghcr.io/opensafely-core/" env:"SLUICE_IMAGE_PREFIX" group:"Worker"`
	NoPull      bool          `help:"Never ask a registry for an image." env:"SLUICE_NO_PULL" group:"Worker"`
	Engine      time.Duration `name:"engine-timeout" help:"Time after which a call to the Docker Engine that is not answered is given up." default:"1m" env:"SLUICE_ENGINE_TIMEOUT" group:"Worker"`
	NoOverlay   bool          `help:"Copy code and inputs for each action instead of mounting an overlay." env:"SLUICE_NO_OVERLAY" group:"Worker"`
	DBNetwork   string        `name:"db-network" help:"The engine's network for database actions." env:"SLUICE_DB_NETWORK" group:"Worker"`
	DBHosts     []string      `name:"db-hosts" help:"Names that database actions can resolve, as name:address." env:"SLUICE_DB_HOSTS" group:"Worker"`
}

// parkedFlags are of the services alone: a study's own run is over before a
// container that was started in advance would pay.
type parkedFlags struct {
	Parked int `help:"Most containers to start in advance for each kind of action that was asked for lately: two, and more where actions had to wait for one. 0 for none." default:"16" env:"SLUICE_PARKED" group:"Worker"`
}

// config turns the flags into a worker's configuration.
func (f workerFlags) config(name, backend, state string) (worker.Config, error) {
	c := worker.DefaultConfig()
	c.Name, c.Backend, c.State, c.Version = name, backend, state, version()
	c.Host, _ = os.Hostname()
	c.Pools = map[string]float64{}
	if f.Slots > 0 {
		c.Pools[defaultPool] = f.Slots
	}
	if f.DBSlots > 0 {
		c.Pools[databasePool] = f.DBSlots
	}
	c.Limits = messages.Limits{CPUs: f.CPUs, Memory: int64(f.Memory), Processes: f.Processes, Disk: int64(f.Disk), Time: f.TimeLimit}
	c.StopGrace, c.Drain, c.StageWait, c.MinFree = f.StopGrace, f.Drain, f.StageWait, int64(f.MinFree)
	if euid := os.Geteuid(); euid != 0 {
		c.UID, c.GID = euid, os.Getegid()
	}
	if f.User != "" {
		if _, err := fmt.Sscanf(f.User, "%d:%d", &c.UID, &c.GID); err != nil {
			return c, usagef("--user %s is not uid:gid", f.User)
		}
	}
	c.Databases, c.ImageEnv = databases(), imageEnv()
	var err error
	if c.DBEnv, err = databaseEnv(); err != nil {
		return c, exit(ExitUsage, err)
	}
	c.Network = worker.Network{Name: f.DBNetwork, Hosts: f.DBHosts}
	if f.DBNetwork != "" {
		c.Network.DNS = []string{"192.0.2.0"} // resolves nothing: only the hosts given
		known := &databaseHosts{databases: c.Databases, named: f.DBHosts, lookup: net.DefaultResolver.LookupHost}
		if err := known.look(context.Background()); err != nil {
			return c, err
		}
		c.Hosts = known.now
	}
	return c, c.Check()
}

// Pools: which actions share slots.
const (
	defaultPool  = "default"
	databasePool = "db"
)

// A byteSize is a number of bytes, written as 512M or 4G.
type byteSize int64

// UnmarshalText reads a size: a number with an optional suffix K, M, G or T,
// each 1024 of the one before.
func (b *byteSize) UnmarshalText(text []byte) error {
	s := strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(string(text))), "B")
	unit := int64(1)
	if i := strings.IndexAny(s, "KMGT"); i == len(s)-1 && i > 0 {
		unit = 1 << (10 * (1 + strings.IndexByte("KMGT", s[i])))
		s = s[:i]
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !(n >= 0 && n*float64(unit) <= 1<<60) {
		return fmt.Errorf("%q is not a size such as 512M or 4G", text)
	}
	*b = byteSize(n * float64(unit))
	return nil
}
