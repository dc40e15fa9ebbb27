package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/internal/git"
	"sluice/internal/needs"
	"sluice/messages"
)

// A requestCase is a line of requests.jsonl: a question to the reference's API,
// and what it answered.
type requestCase struct {
	ID       string
	Endpoint string
	Method   string
	Note     string
	Token    *string
	Existing []existing `json:"existing_jobs"`
	Body     json.RawMessage
	RawBody  *string     `json:"raw_body"`
	Status   int         `json:"http_status"`
	Response any         `json:"response"`
	After    *[]jobAfter `json:"jobs_after"`

	// Of the lines about the URLs of repositories.
	Repo  string   `json:"repo_url"`
	Orgs  []string `json:"allowed_orgs"`
	Valid bool
	Error string
}

type existing struct {
	Rap, Action, State, Workspace, Backend, Commit string
}

type jobAfter struct {
	RapID     string `json:"rap_id"`
	Action    string
	State     string
	Code      string `json:"status_code"`
	Cancelled bool
	Completed *int64 `json:"completed_at"`
}

// differs are the cases in which we answer differently on purpose, and why.
var differs = map[string]struct {
	why    string
	status int
	says   string
}{
	"req-043": {"a name with a line break is refused: the reference's pattern does not look behind it", http.StatusBadRequest, "does not match"},
	"req-096": {"cancelling a finished job is refused (facts, 'cancelling a finished job rewrites it')", http.StatusConflict, "already finished"},
}

// TestRequestCases asks a real gateway next to a real planner what the
// reference was asked (requests.jsonl). The sentences of errors are compared,
// too. A pending job has the code created there, where no loop runs, and
// here the one that says what it waits for.
func TestRequestCases(t *testing.T) {
	t.Parallel()
	cases := needs.Cases[requestCase](t, "requests.jsonl")
	if len(cases) < 70 {
		t.Fatalf("%d cases; want 75", len(cases))
	}
	faulty := newBench(t) // for questions that never reach a planner
	faulty.planner(study)
	faulty.serve(2*time.Minute, testTokens)
	for _, c := range cases {
		if c.Status == http.StatusUnauthorized || c.Status == http.StatusBadRequest && !c.Valid {
			t.Run(c.ID, func(t *testing.T) { c.check(&bench{t: t, conn: faulty.conn, url: faulty.url}) })
			continue
		}
		t.Run(c.ID, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for _, e := range c.Existing {
				b.plant(e)
			}
			b.planner(source{study, git.Rules{AllowedOrgs: c.Orgs, AllowLocal: c.Orgs == nil}})
			b.serve(2*time.Minute, testTokens)
			if c.Endpoint == "repo_url" {
				c.checkRepo(b)
				return
			}
			b.told(c.Existing)
			c.check(b)
		})
	}
}

// A source is a project file whose repository's URL is checked as a fleet does.
type source struct {
	file
	rules git.Rules
}

func (s source) CheckSource(src messages.Source) error {
	if err := s.rules.CheckURL(src.Repo); err != nil {
		return messages.Failf(messages.InvalidRequest, "%s", err.Error())
	}
	return nil
}

// checkRepo asks for an action of a repository.
func (c requestCase) checkRepo(b *bench) {
	body := strings.Replace(create("abcdefgh23456789", `"action1"`), "https://github.com/opensafely/study", c.Repo, 1)
	status, answer := b.post("/rap/create/", body)
	if c.Valid {
		if status != http.StatusCreated {
			b.t.Errorf("%s: got %d %v, want 201", c.Repo, status, answer)
		}
		return
	}
	if status != http.StatusBadRequest || answer["details"] != c.Error {
		b.t.Errorf("%s: got %d %v, want 400 %q", c.Repo, status, answer, c.Error)
	}
}

// check asks, and compares the answer and what became of the jobs.
func (c requestCase) check(b *bench) {
	t, body := b.t, []byte(c.Body)
	if c.RawBody != nil {
		body = []byte(*c.RawBody)
	}
	token := ""
	if c.Token != nil {
		token = *c.Token
	}
	status, data := b.ask(c.Method, c.Endpoint, token, body)
	var got any
	if len(data) == 0 {
		got = ""
	} else if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%s: answer %s is no JSON: %v", c.Note, data, err)
	}
	if d, on := differs[c.ID]; on {
		if status != d.status || !strings.Contains(string(data), d.says) {
			t.Errorf("%s: got %d %s, want %d with %q, as %s", c.Note, status, data, d.status, d.says, d.why)
		}
		return
	}
	if status != c.Status {
		t.Fatalf("%s: got status %d %s, want %d", c.Note, status, data, c.Status)
	}
	if diff := cmp.Diff(comparable(c.Response), comparable(got)); diff != "" {
		t.Errorf("%s: answer (-reference +ours):\n%s", c.Note, diff)
	}
	if c.After != nil {
		c.checkJobs(b)
	}
}

// comparable leaves out of an answer what is not compared: a status message,
// which here is of the code, and there was planted.
func comparable(answer any) any {
	m, ok := answer.(map[string]any)
	if !ok {
		return answer
	}
	if jobs, ok := m["jobs"].([]any); ok {
		for _, j := range jobs {
			delete(j.(map[string]any), "status_message")
		}
	}
	return m
}

// checkJobs waits until the jobs are as the reference's were.
func (c requestCase) checkJobs(b *bench) {
	var got []jobAfter
	last := ""
	b.eventually(c.Note, func() bool {
		got = nil
		err := b.conn.JobsRegister().All(b.t.Context(), "*.*.*", func(e messages.Entry[messages.Job]) {
			j := jobAfter{RapID: string(e.Value.Request), Action: e.Value.Action, State: string(e.Value.State), Code: string(e.Value.Code)}
			if j.Cancelled = e.Value.Code == messages.CancelledByUser; j.Cancelled || e.Value.State == messages.Pending {
				j.State, j.Code = "", "" // there, a job is cancelled as it is; see TestRequestCases for pending
			}
			got = append(got, j)
		})
		if err != nil {
			b.t.Fatal(err)
		}
		last = cmp.Diff(comparableJobs(*c.After), index(got))
		return last == ""
	})
	if b.t.Failed() {
		b.t.Logf("jobs (-reference +ours):\n%s", last)
	}
}

func comparableJobs(list []jobAfter) map[string]jobAfter {
	out := make([]jobAfter, len(list))
	for i, j := range list {
		out[i] = j
		out[i].Completed = nil
		if j.Cancelled || j.State == "pending" {
			out[i].State, out[i].Code = "", ""
		}
	}
	return index(out)
}

func index(list []jobAfter) map[string]jobAfter {
	m := map[string]jobAfter{}
	for _, j := range list {
		m[j.RapID+" "+j.Action] = j
	}
	return m
}
