package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"sluice/internal/gateway"
	"sluice/jetstream"
)

type gatewayCommand struct {
	natsFlags
	Backends   []string      `help:"Backends that a job server may use." default:"test,tpp,emis" env:"BACKENDS" group:"Serving"`
	Listen     string        `help:"Address to serve on; port 0 for any. Without a certificate, one of this machine only." default:"127.0.0.1:8080" env:"SLUICE_GATEWAY_LISTEN" group:"Serving"`
	Cert       string        `name:"tls-cert" help:"File of the certificate to serve with." type:"path" env:"SLUICE_GATEWAY_CERT" group:"Serving"`
	Key        string        `name:"tls-key" help:"File of its key." type:"path" env:"SLUICE_GATEWAY_KEY" group:"Serving"`
	TokensFile string        `name:"tokens-file" help:"File with a line TPP_CLIENT_TOKENS=token,… for each backend; variables of these names have them otherwise." type:"path" env:"SLUICE_GATEWAY_TOKENS_FILE" group:"Serving"`
	Answer     time.Duration `name:"answer-wait" help:"How long a new request waits for the planner's answer before the job server is told to ask for its status later." default:"20s" env:"SLUICE_ANSWER_WAIT" group:"Serving"`
	URLFile    string        `name:"url-file" help:"Write the API's URL into this file once it is served." type:"path" group:"Serving"`

	Poll      string  `help:"URL of a job server's API to poll, such as https://jobs.example.org/api/v2/; none is polled without. The token is in JOB_SERVER_TOKEN." env:"JOB_SERVER_ENDPOINT" group:"Polling"`
	TokenFile string  `name:"job-server-token-file" help:"File of the token, instead of JOB_SERVER_TOKEN." type:"path" env:"SLUICE_JOB_SERVER_TOKEN_FILE" group:"Polling"`
	Backend   string  `help:"Backend whose requests are polled." env:"BACKEND" group:"Polling"`
	Every     seconds `name:"poll-interval" help:"Pause between polls, in seconds or as 5s." default:"5s" env:"POLL_INTERVAL" group:"Polling"`
	ServeNot  bool    `name:"poll-only" help:"Serve nothing." env:"SLUICE_POLL_ONLY" group:"Polling"`
}

// Run serves and polls until it is stopped.
func (cmd *gatewayCommand) Run(a *app) error {
	log := a.log.With().Str("service", "gateway").Logger()
	tokens, poll, err := cmd.secrets()
	if err != nil {
		return exit(ExitUsage, err)
	}
	switch {
	case !cmd.ServeNot && tokens.Len() == 0:
		return usagef("no job server could use the API: set %s or --tokens-file, or --poll-only", gateway.Variable(cmd.Backends[0]))
	case cmd.ServeNot && poll == nil:
		return usagef("--poll-only needs the job server's URL: set --poll or JOB_SERVER_ENDPOINT")
	case cmd.Answer < time.Second || cmd.Answer > 10*time.Minute:
		return usagef("--answer-wait is %v; it must be between 1s and 10m", cmd.Answer)
	}
	listen := gateway.Listen{Address: cmd.Listen, Cert: cmd.Cert, Key: cmd.Key}
	if err := listen.Check(); err != nil && !cmd.ServeNot {
		return exit(ExitUsage, err)
	}
	if tokens.Weak > 0 {
		log.Warn().Int("tokens", tokens.Weak).Msg("tokens are shorter than 16 characters: they can be guessed")
	}
	var services []func(context.Context) error
	c, err := cmd.service(a, "gateway", nil)
	if err != nil {
		return err
	}
	defer c.Close()
	g := newGateway(c, gateway.Config{Tokens: tokens, Answer: cmd.Answer}, log)
	if poll != nil {
		log.Info().Str("url", poll.URL).Str("backend", poll.Backend).Msg("job server is polled")
		services = append(services, func(ctx context.Context) error { return g.Poll(ctx, *poll) })
	}
	if !cmd.ServeNot {
		listener, err := listen.Open()
		if err != nil {
			return err
		}
		url := "http://"
		if cmd.Cert != "" {
			url = "https://"
		}
		url += listener.Addr().String() + "/controller/v1/"
		log.Info().Str("url", url).Strs("backends", cmd.Backends).Msg("the API is served")
		if cmd.URLFile != "" {
			if err := writeWhole(cmd.URLFile, url+"\n"); err != nil {
				return err
			}
		}
		services = append(services, func(ctx context.Context) error { return g.Serve(ctx, listener, cmd.Backends) })
	}
	return together(a.ctx, services...)
}

// secrets reads tokens, from files and the environment only, and what is to be
// polled with one; nil for nothing.
func (cmd *gatewayCommand) secrets() (*gateway.Tokens, *gateway.Poll, error) {
	file, err := readSecret(cmd.TokensFile)
	if err != nil {
		return nil, nil, err
	}
	if len(cmd.Backends) == 0 || slices.Contains(cmd.Backends, "") {
		return nil, nil, errors.New("name the backends: set --backends or BACKENDS")
	}
	tokens, err := gateway.ParseTokens(cmd.Backends, os.Getenv, file)
	if err != nil || cmd.Poll == "" {
		return tokens, nil, err
	}
	token, err := readSecret(cmd.TokenFile)
	if err != nil {
		return nil, nil, err
	}
	if cmd.TokenFile == "" {
		token = os.Getenv("JOB_SERVER_TOKEN")
	}
	poll := &gateway.Poll{URL: cmd.Poll, Token: strings.TrimSpace(token), Backend: cmd.Backend, Every: time.Duration(cmd.Every)}
	if err := poll.Check(); err != nil {
		return nil, nil, fmt.Errorf("polling: %w", err)
	}
	return tokens, poll, nil
}

// readSecret reads a file of tokens; nothing for no name.
func readSecret(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := readSmall(path)
	if err != nil {
		return "", fmt.Errorf("read tokens: %w", err)
	}
	return string(data), nil
}

// newGateway introduces a gateway to the server.
func newGateway(c *jetstream.Conn, cfg gateway.Config, log zerolog.Logger) *gateway.Gateway {
	return gateway.New(cfg, gateway.Ports{
		Outbox: c, Outcomes: singly{c, jetstream.Outcomes}, Requests: singly{c, jetstream.Requests},
		Presence: c, Settings: c.SettingsRegister(), Hints: c,
	}, log)
}

// singly reads a stream one message at a time.
type singly struct {
	conn   *jetstream.Conn
	stream string
}

func (s singly) Next(ctx context.Context, subject string, from uint64) (gateway.Stored, error) {
	f, err := s.conn.Next(ctx, s.stream, subject, from)
	return gateway.Stored{Subject: f.Subject, Data: f.Data, Sequence: f.Sequence, At: f.At}, err
}

// A seconds is a pause as the old runner's settings have it, a number of
// seconds, or as ours have it.
type seconds time.Duration

// UnmarshalText reads a pause: 5, 0.5 or 5s.
func (s *seconds) UnmarshalText(text []byte) error {
	if n, err := strconv.ParseFloat(string(text), 64); err == nil && n >= 0 && n < 1e6 {
		*s = seconds(n * float64(time.Second))
		return nil
	}
	d, err := time.ParseDuration(string(text))
	if err != nil {
		return fmt.Errorf("%q is not a pause such as 5 or 5s", text)
	}
	*s = seconds(d)
	return nil
}
