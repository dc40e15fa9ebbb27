package gateway_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/jetstream"
	"sluice/messages"
)

// TestNothingWithoutToken: whatever is asked, whoever has no valid token gets
// 401, the reference's words, and has changed nothing.
func TestNothingWithoutToken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.serve(time.Minute, map[string]string{"TEST_CLIENT_TOKENS": "first-token-of-test, second-token-of-test", "TPP_CLIENT_TOKENS": "second-token-of-test"})
	body := []byte(create("abcdefgh23456789", `"action1"`))
	for _, token := range []string{"", "first-token-of-tesT", "first-token-of-test2", "first-token-of", "Bearer", "Bearer ", "Basic first-token-of-test", ",", "first-token-of-test, second-token-of-test"} {
		for _, path := range []string{"/rap/create/", "/rap/cancel/", "/rap/status/", "/backend/status/", "/", "/nowhere", "/rap/create"} {
			for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
				status, answer := b.ask(method, path, token, body)
				want := `{"error":"Unauthorized","details":"Invalid token"}`
				if token == "" {
					want = `{"error":"Unauthorized","details":"No token provided"}`
				}
				if status != http.StatusUnauthorized || string(answer) != want {
					t.Errorf("%s %s with %q: got %d %s", method, path, token, status, answer)
				}
			}
		}
	}
	if list := b.published(jetstream.Requests, "sluice.>"); len(list) != 0 {
		t.Errorf("published: %s", list)
	}
	for token, want := range map[string]string{"first-token-of-test": `[test]`, "second-token-of-test": `[test tpp]`, "Bearer first-token-of-test": `[test]`} {
		_, data := b.ask(http.MethodGet, "/backend/status/", token, nil)
		var answer struct{ Backends []struct{ Slug string } }
		if err := json.Unmarshal(data, &answer); err != nil {
			t.Fatal(err)
		}
		var slugs []string
		for _, s := range answer.Backends {
			slugs = append(slugs, s.Slug)
		}
		if fmt.Sprint(slugs) != want {
			t.Errorf("%s may use %v, want %s", token, slugs, want)
		}
	}
}

// TestWithoutPlanner: a request that no planner answers is stored; the job
// server gets no answer that it could take for a refusal, hears that the request
// is there, also from a gateway that was started again, and finds its jobs once
// a planner has come. The same request again is not a second one.
func TestWithoutPlanner(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stop := b.serve(5*time.Second, testTokens)
	ask := func() {
		t.Helper()
		status, answer := b.post("/rap/create/", create("abcdefgh23456789", `"action1"`))
		if text, _ := answer["text"].(string); status != http.StatusServiceUnavailable || !strings.Contains(text, "no planner has answered") {
			t.Errorf("got %d %v, want 503 and text", status, answer)
		}
	}
	waits := func() {
		t.Helper()
		status, answer := b.post("/rap/status/", `{"rap_ids": ["abcdefgh23456789", "zzzzzzzz23456789"]}`)
		if status != http.StatusOK || fmt.Sprint(answer) != "map[jobs:[] unrecognised_rap_ids:[zzzzzzzz23456789]]" {
			t.Errorf("status: got %d %v", status, answer)
		}
	}
	waits0, answer := b.post("/rap/status/", `{"rap_ids": ["abcdefgh23456789"]}`)
	if waits0 != http.StatusOK || !contains(answer, "abcdefgh23456789") {
		t.Errorf("before: got %d %v", waits0, answer)
	}
	ask()
	ask()
	waits()
	stop()
	b.serve(5*time.Second, testTokens)
	waits()
	ask()
	if list := b.published(jetstream.Requests, "sluice.request.>"); len(list) != 1 {
		t.Errorf("%d requests were published, want 1", len(list))
	}
	b.planner(study)
	b.eventually("the job", func() bool {
		_, answer := b.post("/rap/status/", `{"rap_ids": ["abcdefgh23456789"]}`)
		return contains(answer, `"action":"action1"`)
	})
	status, answer := b.post("/rap/create/", create("abcdefgh23456789", `"action1"`))
	if status != http.StatusOK || answer["result"] != "No change" {
		t.Errorf("again: got %d %v, want no change", status, answer)
	}
}

// TestRefusedAgain: each time that something is refused, it is told so.
func TestRefusedAgain(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.planner(study)
	b.serve(2*time.Minute, testTokens)
	for range 3 {
		status, answer := b.post("/rap/create/", create("abcdefgh23456789", `"nothere"`))
		if status != http.StatusBadRequest || answer["details"] != "Action 'nothere' not found in project.yaml" {
			t.Errorf("got %d %v", status, answer)
		}
	}
	status, answer := b.post("/rap/status/", `{"rap_ids": ["abcdefgh23456789"]}`)
	if status != http.StatusOK || !contains(answer, `"unrecognised_rap_ids":["abcdefgh23456789"]`) {
		t.Errorf("status: got %d %v", status, answer)
	}
	bad := strings.Replace(create("bbcdefgh23456789", `"a/b", "action1"`), "opensafely/study", "-", 1)
	status, answer = b.post("/rap/create/", strings.Replace(bad, `"u"`, `"u\n"`, 1))
	if details, _ := answer["details"].(string); status != http.StatusBadRequest || !strings.Contains(details, "Action 'a/b' not found") || !strings.Contains(details, "created_by") {
		t.Errorf("got %d %v, want every reason at once", status, answer)
	}
}

// TestCancelWhatHasNotEnded: of several actions those that have ended stay as
// they are, and the others are cancelled; to cancel again changes nothing.
func TestCancelWhatHasNotEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	list := []existing{{Rap: "abcdefgh23456789", Action: "action1", State: "succeeded"}, {Rap: "abcdefgh23456789", Action: "action2"}}
	for _, e := range list {
		b.plant(e)
	}
	b.planner(study)
	b.serve(2*time.Minute, testTokens)
	b.told(list)
	for range 2 {
		status, answer := b.post("/rap/cancel/", `{"rap_id": "abcdefgh23456789", "actions": ["action1", "action2"]}`)
		if status != http.StatusOK || answer["count"] != 1.0 || answer["details"] != "1 actions cancelled, 1 already finished" {
			t.Errorf("got %d %v", status, answer)
		}
		b.eventually("the end of action2", func() bool {
			_, answer := b.post("/rap/status/", `{"rap_ids": ["abcdefgh23456789"]}`)
			return contains(answer, `"status_code":"cancelled_by_user"`) && contains(answer, `"status_code":"succeeded"`)
		})
	}
}

// TestClosedLips: of a job whose record has names, messages and counts that a
// study's code chose, no answer has any (I7).
func TestClosedLips(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	e := existing{Rap: "abcdefgh23456789", Action: "action1", State: "succeeded"}
	b.plant(e)
	key := messages.JobKey("test", "test-study", messages.NewJobID("abcdefgh23456789", "action1"))
	entry, err := b.conn.JobsRegister().Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	j := entry.Value
	j.Result = &messages.Result{
		ExitCode: 42, Metrics: &messages.Metrics{CPUPeak: 42, Container: "secret"}, Worker: "secret-worker", Unmatched: []messages.Unmatched{{Pattern: "out/*.csv", Nearest: []messages.Path{"secret-1.csv"}}},
		Leftover: []messages.Path{"secret-2.csv"}, Leftovers: 1, Withheld: []messages.FileProblem{{Path: "secret-3.csv", Reason: "secret"}}, Withhelds: 1,
	}
	if _, err := b.conn.JobsRegister().Update(t.Context(), key, j, entry.Revision); err != nil {
		t.Fatal(err)
	}
	b.planner(study)
	b.serve(2*time.Minute, testTokens)
	b.told([]existing{e})
	for _, question := range [][2]string{
		{"/rap/status/", `{"rap_ids": ["abcdefgh23456789"]}`},
		{"/rap/cancel/", `{"rap_id": "abcdefgh23456789", "actions": ["action1"]}`},
		{"/rap/create/", strings.Replace(create("abcdefgh23456789", `"action1"`), "https://github.com/opensafely/study", "/repo", 1)},
	} {
		status, answer := b.post(question[0], question[1])
		if contains(answer, "secret") || contains(answer, "42") || status == http.StatusServiceUnavailable {
			t.Errorf("%s: %d %v", question[0], status, answer)
		}
		if question[0] == "/rap/status/" && !contains(answer, "some file(s) marked as moderately_sensitive were excluded") {
			t.Errorf("status does not say that files were withheld: %v", answer)
		}
	}
}

// TestBackendStatus: what operators have set, and when a worker was there last.
func TestBackendStatus(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.serve(2*time.Minute, map[string]string{"TEST_CLIENT_TOKENS": "t", "OTHER_CLIENT_TOKENS": "t"})
	since := time.Date(2026, 11, 2, 9, 30, 0, 5, time.UTC)
	set := &messages.Setting{Paused: &messages.Switch{Since: since, By: "ada", Reason: "disk"}, Maintenance: &messages.Switch{Since: since, Manual: true}}
	if _, err := b.conn.SettingsRegister().Create(t.Context(), messages.SettingKey("test"), set); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"w1", "w2"} {
		p := &messages.Presence{Worker: w, Backend: "test", Pools: map[string]messages.Slots{}}
		if err := b.conn.Announce(t.Context(), p, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	status, data := b.ask(http.MethodGet, "/backend/status/", "t", nil)
	var answer struct {
		Backends []struct {
			Slug        string
			LastSeen    *time.Time `json:"last_seen"`
			Paused      json.RawMessage
			Maintenance json.RawMessage `json:"db_maintenance"`
		}
	}
	if err := json.Unmarshal(data, &answer); err != nil || status != http.StatusOK || len(answer.Backends) != 2 {
		t.Fatalf("got %d %s, %v", status, data, err)
	}
	test, other := answer.Backends[0], answer.Backends[1]
	if got := string(test.Paused) + string(test.Maintenance); got != `{"status":"on","since":"2026-11-02T09:30:00Z"}{"status":"on","since":"2026-11-02T09:30:00Z","type":"manual"}` {
		t.Errorf("test: %s", got)
	}
	if test.LastSeen == nil || time.Since(*test.LastSeen) > time.Hour || other.LastSeen != nil {
		t.Errorf("last seen: %v and %v", test.LastSeen, other.LastSeen)
	}
	if got := string(other.Paused) + string(other.Maintenance); got != `{"status":"off","since":null}{"status":"off","since":null,"type":null}` {
		t.Errorf("other: %s", got)
	}
}

// TestBounds: a body that is too large, or a question with too many ids, is
// refused.
func TestBounds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.serve(2*time.Minute, testTokens)
	if status, answer := b.post("/rap/create/", create("abcdefgh23456789", `"`+strings.Repeat("a", 300<<10)+`"`)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: got %d %v, want 413", status, answer)
	}
	if status, answer := b.post("/rap/status/", `{"rap_ids": ["a`+strings.Repeat(`","b`, 10_001)+`"]}`); status != http.StatusBadRequest {
		t.Errorf("many ids: got %d %v, want 400", status, answer)
	}
	if status, answer := b.post("/rap/status/", `{"rap_ids": ["../x", "a.b", "*", ""]}`); status != http.StatusOK || !contains(answer, `["../x","a.b","*",""]`) {
		t.Errorf("ids that nobody can have: got %d %v", status, answer)
	}
}
