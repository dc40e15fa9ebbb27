package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"sluice/messages"
)

// Bounds of what a job server answers.
const (
	maxPolled      = 32 << 20         // bytes
	maxJobRequests = 10_000           // at once
	sayAgain       = time.Minute      // a job server that lost what it was told hears it again
	longestPause   = 5 * time.Minute  // between polls that fail
	callWithin     = 60 * time.Second // one call to a job server
)

// A Poll asks a job server what is to be done, as the runners before the RAP API
// did: it has no address of its own to be called at.
type Poll struct {
	URL     string // of the API, such as https://jobs.opensafely.org/api/v2/
	Token   string
	Backend string
	Every   time.Duration
}

// Check reports what cannot work.
func (p Poll) Check() error {
	u, err := url.Parse(p.URL)
	switch {
	case err == nil && u.User != nil:
		return fmt.Errorf("the URL of the job server at %s has a password in it; it goes into JOB_SERVER_TOKEN", messages.Quote(u.Host))
	case err != nil || u.Host == "":
		return fmt.Errorf("%s is not the URL of a job server's API", messages.Quote(p.URL))
	case u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())):
		return fmt.Errorf("%s: the token would cross the network in the clear; use https", messages.Quote(p.URL))
	case p.Token == "":
		return errors.New("the job server's token is missing")
	case p.Every < 100*time.Millisecond:
		return fmt.Errorf("polling every %v is too often; 100ms is the least", p.Every)
	}
	return messages.CheckBackend(p.Backend)
}

// A poller polls.
type poller struct {
	*Gateway
	poll   Poll
	client *http.Client
	failed time.Duration // the pause after the last failure

	wanted map[messages.JobID]time.Time // when a job's cancellation was published
	told   []byte                       // what the job server has taken last
	toldAt time.Time
}

// Poll polls a job server until ctx ends. What it asks for is published as
// messages; the jobs of its requests are told to it. Each poll begins anew with
// what the server's streams say, so that one that was broken off, or is made by
// two gateways at once, does no harm.
func (g *Gateway) Poll(ctx context.Context, poll Poll) error {
	if err := poll.Check(); err != nil {
		return err
	}
	p := &poller{
		Gateway: g, poll: poll, wanted: map[messages.JobID]time.Time{},
		client: &http.Client{
			Timeout:       callWithin,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a token is for one server
		},
	}
	defer p.client.CloseIdleConnections()
	for {
		pause := poll.Every
		if err := p.once(ctx); err != nil && ctx.Err() == nil {
			p.failed = min(max(2*p.failed, poll.Every), longestPause)
			pause = p.failed + rand.N(p.failed/4+1)
			g.log.Warn().Err(err).Dur("pause", pause).Msg("job server could not be polled")
		} else {
			p.failed = 0
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// once asks what is to be done, publishes it, and tells of the jobs.
func (p *poller) once(ctx context.Context) error {
	var page struct {
		Results []json.RawMessage `json:"results"`
	}
	if err := p.call(ctx, http.MethodGet, "job-requests/?backend="+url.QueryEscape(p.poll.Backend), nil, &page); err != nil {
		return err
	}
	if len(page.Results) > maxJobRequests {
		return fmt.Errorf("the job server has %d requests; the limit is %d", len(page.Results), maxJobRequests)
	}
	jobs := []remoteJob{}
	var errs []error
	for _, raw := range page.Results {
		list, err := p.handle(ctx, raw)
		jobs = append(jobs, list...)
		if err != nil {
			errs = append(errs, err) // the others are not to wait for it
		}
	}
	if len(jobs) > 0 {
		errs = append(errs, p.report(ctx, jobs))
	}
	return errors.Join(errs...)
}

// report tells the job server of jobs, if there is news or it is long ago.
func (p *poller) report(ctx context.Context, jobs []remoteJob) error {
	data, err := json.Marshal(jobs)
	if err != nil {
		return err
	}
	now := p.ports.Now()
	if bytes.Equal(data, p.told) && now.Sub(p.toldAt) < sayAgain {
		return nil
	}
	if err := p.call(ctx, http.MethodPost, "jobs/", data, nil); err != nil {
		return err
	}
	p.told, p.toldAt = data, now
	return nil
}

// call makes one call to the job server.
func (p *poller) call(ctx context.Context, method, path string, body []byte, into any) error {
	r, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(p.poll.URL, "/")+"/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	flags, err := p.flags(ctx)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", p.poll.Token)
	r.Header.Set("Flags", flags)
	r.Header.Set("Accept", "application/json")
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	resp, err := p.client.Do(r)
	if err != nil {
		return fmt.Errorf("ask the job server: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxPolled+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the job server's answer to %s %s: %w", method, path, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the job server answered %s %s with %s: %s", method, path, resp.Status, messages.Quote(string(data)))
	case len(data) > maxPolled:
		return fmt.Errorf("the job server's answer to %s %s is larger than %d bytes", method, path, maxPolled)
	case into == nil:
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the job server's answer to %s %s cannot be read: %w", method, path, err)
	}
	return nil
}

// flags says, as the reference does in each call, what operators have set.
func (p *poller) flags(ctx context.Context) (string, error) {
	set, err := p.setting(ctx, p.poll.Backend)
	if err != nil {
		return "", err
	}
	type value struct {
		Value string `json:"v"`
		Since *stamp `json:"ts"`
	}
	flags := map[string]value{}
	if set.Paused != nil {
		flags["paused"] = value{"true", at(set.Paused.Since)}
	}
	if set.Maintenance != nil {
		flags["mode"] = value{"db-maintenance", at(set.Maintenance.Since)}
	}
	data, err := json.Marshal(flags)
	return string(data), err
}
