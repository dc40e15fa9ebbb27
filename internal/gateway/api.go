package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/rs/zerolog"

	"sluice/messages"
)

// prefix begins the paths of the API, as the reference has them.
const prefix = "/controller/v1/"

// Bounds.
const (
	maxCreate  = messages.MaxRequestBytes // bytes of a body
	maxOther   = 1 << 20
	maxRapIDs  = 10_000           // of one question for status
	maxAtOnce  = 64               // questions that are answered at a time
	readWithin = 30 * time.Second // what a question may take that waits for nobody
)

// A Config is what an operator may set.
type Config struct {
	Tokens *Tokens
	Answer time.Duration // how long a new request waits for a planner's answer
}

// A Gateway answers a job server. Make one with New.
type Gateway struct {
	cfg      Config
	ports    Ports
	log      zerolog.Logger
	raps     raps
	requests requests
	slots    chan struct{}
}

// New returns a gateway. It starts nothing.
func New(cfg Config, ports Ports, log zerolog.Logger) *Gateway {
	if ports.Now == nil {
		ports.Now = func() time.Time { return time.Now().UTC() }
	}
	return &Gateway{
		cfg: cfg, ports: ports, log: log,
		raps:     raps{stream: ports.Outcomes, list: map[name]*rap{}},
		requests: requests{stream: ports.Requests, now: ports.Now, next: map[string]uint64{}, seen: map[name]asked{}},
		slots:    make(chan struct{}, maxAtOnce),
	}
}

// An answer is what a question gets. A nil body is none.
type answer struct {
	status int
	body   any
}

// details are the reference's answers to what cannot be done.
type details struct {
	Error   string `json:"error"`
	Details string `json:"details"`

	RapID    messages.RequestID `json:"rap_id,omitempty"`
	NotFound []string           `json:"not_found,omitempty"`
	Finished []string           `json:"finished,omitempty"`
}

func refused(status int, kind, format string, args ...any) answer {
	return answer{status, details{Error: kind, Details: fmt.Sprintf(format, args...)}}
}

func invalid(fault string) answer {
	return refused(http.StatusBadRequest, "Validation error", "%s", fault)
}

// A later answer says that the question cannot be answered now. It is no JSON
// on purpose: a job server that cannot read an answer to a request asks for the
// request's status later, and fails one whose answer it can read.
type later struct{ reason string }

func (l later) Error() string { return l.reason }

// Handler returns the API. Whoever has no valid token gets 401 and nothing else,
// whatever was asked.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	for path, e := range map[string]endpoint{
		"rap/create/":     {http.MethodPost, maxCreate, g.create},
		"rap/cancel/":     {http.MethodPost, maxOther, g.cancel},
		"rap/status/":     {http.MethodPost, maxOther, g.status},
		"backend/status/": {http.MethodGet, 0, g.backendStatus},
	} {
		mux.Handle(prefix+path+"{$}", g.serve(e))
	}
	return g.authenticated(mux)
}

// An endpoint is a path of the API.
type endpoint struct {
	method string
	most   int64 // bytes of its body; 0: it is not read
	handle func(ctx context.Context, backends []string, data []byte) (answer, error)
}

type backendsKey struct{}

func (g *Gateway) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := r.Header.Get("Authorization")
		backends := g.cfg.Tokens.Backends(header)
		if len(backends) == 0 {
			why := "Invalid token"
			if header == "" {
				why = "No token provided"
			}
			g.log.Warn().Str("from", r.RemoteAddr).Str("path", cut(r.URL.Path)).Msg("refused: " + why)
			g.write(w, refused(http.StatusUnauthorized, "Unauthorized", "%s", why))
			return
		}
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), backendsKey{}, backends)))
	})
}

func (g *Gateway) serve(e endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != e.method {
			w.Header().Set("Allow", e.method)
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		began := g.ports.Now()
		a, err := g.ask(w, r, e)
		line := g.log.Info()
		if err != nil {
			line = g.log.Warn().Err(err)
		}
		line.Str("path", r.URL.Path).Int("status", a.status).Dur("took", g.ports.Now().Sub(began)).Msg("answered")
		g.write(w, a)
	})
}

// ask has an endpoint answer, and says what kept it from answering.
func (g *Gateway) ask(w http.ResponseWriter, r *http.Request, e endpoint) (answer, error) {
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	default:
		return answer{http.StatusServiceUnavailable, "too many questions at once; ask again\n"}, errors.New("too many questions at once")
	}
	var data []byte
	var err error
	if e.most > 0 {
		data, err = io.ReadAll(http.MaxBytesReader(w, r.Body, e.most))
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return refused(http.StatusRequestEntityTooLarge, "Validation error", "the request body is larger than %d bytes", e.most), err
	case err != nil:
		return invalid("the request body could not be read"), err
	}
	backends, _ := r.Context().Value(backendsKey{}).([]string)
	ctx, cancel := context.WithTimeout(r.Context(), readWithin+g.cfg.Answer)
	defer cancel()
	a, err := e.handle(ctx, backends, data)
	if err == nil {
		return a, nil
	}
	var wait later
	if errors.As(err, &wait) {
		return answer{http.StatusServiceUnavailable, wait.reason + "\n"}, err
	}
	return answer{http.StatusServiceUnavailable, "the fleet's server cannot be asked now; ask again\n"}, err
}

// write sends an answer: text as it is, anything else as JSON.
func (g *Gateway) write(w http.ResponseWriter, a answer) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	var data []byte
	if text, plain := a.body.(string); plain {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		data = []byte(text)
	} else {
		h.Set("Content-Type", "application/json")
		var err error
		if data, err = json.Marshal(a.body); err != nil {
			g.log.Error().Err(err).Msg("an answer cannot be written as JSON")
			a.status, data = http.StatusInternalServerError, nil
		}
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(data) // whoever asked may have gone
}
