package messages_test

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"sluice/messages"
)

func newLike(m messages.Message) messages.Message {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(messages.Message)
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, data, want string }{
		{"nothing", "", "the message is empty"},
		{"not JSON", "{\n  \"id\": oops}", "line 2, column 9"},
		{"a list", "[]", "an object is expected"},
		{"no version", `{"id":"a"}`, `add "schema": 1`},
		{"newer version", `{"schema":2}`, "schema version 2 is not known here"},
		{"wrong type", `{"schema":1,"id":7}`, `field "id": a JSON number does not fit here`},
		{"everything missing", `{"schema":1}`, "the request has no id; invalid backend name \"\" (allowed are lower-case letters, digits and dash); Workspace name cannot be blank; the request has no repo"},
		{"wildcards", `{"schema":1,"id":"*","backend":">","workspace":"a.b","repo":"r","commit":"x","actions":["a"]}`, "Invalid workspace name (allowed are alphanumeric, dash and underscore)"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			err := messages.Decode([]byte(tc.data), &messages.Request{})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("Decode = %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestDecodeIgnoresUnknownFields(t *testing.T) {
	t.Parallel()
	data := `{"schema":1,"kind":"drain","invented_later":{"a":[1]}}`
	if err := messages.Decode([]byte(data), &messages.Control{}); err != nil {
		t.Errorf("Decode = %v, want nil", err)
	}
}

func TestEncodeRefusesTooLarge(t *testing.T) {
	t.Parallel()
	m := samples()["job"].(*messages.Job)
	m.Run = strings.Repeat("x", messages.MaxPayload)
	if _, err := messages.Encode(m); !errors.Is(err, messages.ErrTooLarge) {
		t.Errorf("Encode = %v, want ErrTooLarge", err)
	}
}

// TestJobID: ids are those of the reference (create.jsonl, create-000).
func TestJobID(t *testing.T) {
	t.Parallel()
	if got, want := messages.NewJobID("rapreq0000000001", "alone"), messages.JobID("7gmvazwcb7dwf47k"); got != want {
		t.Errorf("NewJobID = %s, want %s", got, want)
	}
}

func TestTokenIsReversible(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "s"))
		token := messages.Token(s)
		if strings.ContainsAny(token, ".*> \t\r\n") || token == "" {
			t.Fatalf("Token(%q) = %q is no token", s, token)
		}
		back, err := messages.ParseToken(token)
		if err != nil || back != s {
			t.Fatalf("ParseToken(%q) = %q, %v, want %q", token, back, err, s)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	for _, s := range []string{"", "=", "a", "=2E", "=2e", "=41", "a=", "=ZZ", "a.b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		name, err := messages.ParseToken(token)
		if err == nil && messages.Token(name) != token {
			t.Errorf("ParseToken(%q) = %q, whose token is %q", token, name, messages.Token(name))
		}
	})
}

func FuzzParseSubject(f *testing.F) {
	f.Add("sluice.action.tpp.db.asthma." + string(job))
	f.Add("sluice.event.worker.tpp.asthma." + string(job) + ".1.claimed")
	f.Add("sluice.request.a.b")
	f.Fuzz(func(t *testing.T, subject string) {
		if p, err := messages.ParseSubject(subject); err == nil && p.Backend != "" && !strings.Contains(subject, messages.Token(p.Backend)) {
			t.Errorf("ParseSubject(%q) made up backend %q", subject, p.Backend)
		}
	})
}

// FuzzDecode: no payload makes a decoder panic, and what it accepts it can
// write again.
func FuzzDecode(f *testing.F) {
	for name, m := range samples() {
		data, err := messages.Encode(m)
		if err != nil {
			f.Fatalf("%s: %v", name, err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range samples() {
			into := newLike(m)
			if messages.Decode(data, into) != nil {
				continue
			}
			if _, err := messages.Encode(into); err != nil && !errors.Is(err, messages.ErrTooLarge) {
				t.Errorf("decoded %T cannot be encoded: %v", into, err)
			}
		}
	})
}

func TestSubjectsParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		subject string
		want    messages.Place
	}{
		{(&messages.Request{Backend: "tpp", Workspace: "a_b"}).Subject(), messages.Place{Kind: "request", Backend: "tpp", Workspace: "a_b"}},
		{messages.ActionSubject("tpp", "db", "w", job), messages.Place{Kind: "action", Backend: "tpp", Pool: "db", Workspace: "w", Job: job}},
		{(&messages.Files{Backend: "tpp", Workspace: "w", Job: job}).Subject(), messages.Place{Kind: "files", Backend: "tpp", Workspace: "w", Job: job}},
		{
			(&messages.PersisterEvent{Backend: "tpp", Workspace: "w", Job: job, Verdict: messages.Persisted}).Subject(),
			messages.Place{Kind: "event", Branch: "persister", Backend: "tpp", Workspace: "w", Job: job},
		},
	} {
		got, err := messages.ParseSubject(tc.subject)
		if err != nil {
			t.Errorf("ParseSubject(%s): %v", tc.subject, err)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("ParseSubject(%s) (-want +got):\n%s", tc.subject, diff)
		}
	}
}

// TestTransitions walks the whole table.
func TestTransitions(t *testing.T) {
	t.Parallel()
	for _, from := range messages.Codes() {
		for _, to := range messages.Codes() {
			ok := messages.CanMove(from, to)
			switch {
			case from.Final() && ok:
				t.Errorf("%s is final and may become %s (I2)", from, to)
			case ok && from == to && from != messages.Initiated:
				t.Errorf("%s may become itself", from)
			case from.State() == messages.Pending && to.State() == messages.Running && ok != (to == messages.Initiated):
				t.Errorf("CanMove(%s, %s) = %v; a job starts as initiated only", from, to, ok)
			case !from.Final() && to == messages.CancelledByUser && !ok:
				t.Errorf("%s cannot be cancelled", from)
			case from.State() == messages.Running && (to == messages.DependencyFailed || to == messages.StaleCodelists) && ok:
				t.Errorf("%s may become %s", from, to)
			}
		}
	}
	for _, path := range [][]messages.Code{
		{messages.Created, messages.WaitingOnDependencies, messages.WaitingOnWorkers, messages.Initiated, messages.Preparing, messages.Executing, messages.Finalizing, messages.Success},
		{messages.Created, messages.Initiated, messages.Executing, messages.Initiated, messages.OutOfMemory},
		{messages.Created, messages.Initiated, messages.Executing, messages.WaitingDBMaintenance, messages.Initiated, messages.NonzeroExit},
	} {
		for i := range path[1:] {
			if !messages.CanMove(path[i], path[i+1]) {
				t.Errorf("CanMove(%s, %s) = false, want true", path[i], path[i+1])
			}
		}
	}
	for _, tc := range [][2]messages.Code{{messages.Executing, messages.Preparing}, {messages.WaitingOnWorkers, messages.Created}, {"", messages.Success}, {messages.Created, "invented"}} {
		if messages.CanMove(tc[0], tc[1]) {
			t.Errorf("CanMove(%q, %q) = true, want false", tc[0], tc[1])
		}
	}
}

// TestNothingLeaks: an outcome has no field that could carry what a
// study's code chose (I7): what is added to JobOutcome must be thought about.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	j := samples()["job"].(*messages.Job)
	j.Message = "SECRET in a message"
	j.Result.Leftover = []messages.Path{"SECRET.csv"}
	j.Result.Withheld = []messages.FileProblem{{Path: "SECRET", Reason: "SECRET"}}
	j.Lost = []messages.Loss{{Reason: "SECRET"}}
	j.Result.Unmatched = []messages.Unmatched{{Pattern: "SECRET/*.csv"}}
	j.Result.ExitCode = 42
	tells := func(disclosure ...string) string {
		text, err := json.Marshal(j.Outside(disclosure))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if text := tells(); strings.Contains(text, "SECRET") || strings.Contains(text, "42") {
		t.Errorf("a job's outcome tells what it must not: %s", text)
	}
	for what, want := range map[string][]string{
		messages.DiscloseExitCode: {`"exit_code":42`, "SECRET in a message"},
		messages.DisclosePatterns: {"SECRET/*.csv"},
		messages.DiscloseFiles:    {"SECRET.csv", `"reason":"SECRET"`},
	} {
		text := tells(what)
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("with %s disclosed there is no %s: %s", what, w, text)
			}
		}
		if n := strings.Count(text, "SECRET"); n != strings.Count(strings.Join(want, ""), "SECRET")+map[string]int{messages.DiscloseFiles: 1}[what] {
			t.Errorf("with %s disclosed more is told: %s", what, text)
		}
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, bad := range []messages.Path{"", "/etc/passwd", "../x", "a/../b", "a//b", "./a", "a/", "a\x00b", messages.Path(strings.Repeat("x", 256))} {
		if bad.Check() == nil {
			t.Errorf("Path(%q).Check() = nil, want an error", string(bad))
		}
	}
	for _, good := range []messages.Path{"a", "a b/c\nd", "..a/b..", "\xff.csv", messages.Path(strings.Repeat("x", 255))} {
		if err := good.Check(); err != nil {
			t.Errorf("Path(%q).Check() = %v, want nil", string(good), err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := messages.Path(rapid.SliceOf(rapid.Byte()).Draw(t, "p"))
		data, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back messages.Path
		if err := back.UnmarshalJSON(data); err != nil || back != p {
			t.Fatalf("%q came back as %q, %v", p, back, err)
		}
		for _, r := range p.String() {
			if r < ' ' || r == 0x7f {
				t.Fatalf("String of %q has control characters", string(p))
			}
		}
	})
}
