package messages

import (
	"fmt"
	"strconv"
	"strings"
)

// Prefix begins every subject of the fleet.
const Prefix = "sluice"

func join(tokens ...string) string { return strings.Join(tokens, ".") }

// Subject returns where the request is published.
func (r *Request) Subject() string {
	return join(Prefix, "request", Token(r.Backend), Token(r.Workspace))
}

// Subject returns where the cancellation is published.
func (c *Cancel) Subject() string {
	return join(Prefix, "cancel", Token(c.Backend), Token(c.Workspace))
}

// Subject returns where the action is published. One subject holds one message.
func (a *Action) Subject() string { return ActionSubject(a.Backend, a.Pool, a.Workspace, a.Job) }

// ActionSubject returns where a job's action is published.
func ActionSubject(backend, pool, workspace string, job JobID) string {
	return join(Prefix, "action", Token(backend), Token(pool), Token(workspace), Token(string(job)))
}

// Subject returns where the new files are published.
func (f *Files) Subject() string {
	return join(Prefix, "files", Token(f.Backend), Token(f.Workspace), Token(string(f.Job)))
}

// Subject returns where the event is published.
func (e *WorkerEvent) Subject() string {
	return join(Prefix, "event", "worker", Token(e.Backend), Token(e.Workspace), Token(string(e.Job)), strconv.Itoa(e.Attempt), Token(string(e.Stage)))
}

// Subject returns where the event is published.
func (e *PersisterEvent) Subject() string {
	return join(Prefix, "event", "persister", Token(e.Backend), Token(e.Workspace), Token(string(e.Job)), Token(string(e.Verdict)))
}

// VerdictSubjects matches where the server repeats each persister event of a
// backend that it has stored, so that workers hear it without reading a stream.
// What follows the backend is as in the event's own subject.
func VerdictSubjects(backend string) string { return join(Prefix, "verdict", Token(backend), ">") }

// Subject returns where the outcome is published.
func (o *Outcome) Subject() string {
	return join(Prefix, "outcome", Token(o.Backend), Token(string(o.Request)))
}

// LogSubject returns where the log of an attempt is published.
func LogSubject(backend string, job JobID, attempt int) string {
	return join(Prefix, "log", Token(backend), Token(string(job)), strconv.Itoa(attempt))
}

// ControlSubject returns where a worker hears control messages.
func ControlSubject(backend, worker string) string {
	return join(Prefix, "control", Token(backend), Token(worker))
}

// DeadSubjectOf returns where a dead letter is published. What is unknown is
// "_".
func DeadSubjectOf(backend, workspace, job string) string {
	return join(Prefix, "dead", orUnknown(backend), orUnknown(workspace), orUnknown(job))
}

func orUnknown(s string) string {
	if s == "" {
		return "_"
	}
	return Token(s)
}

// JobKey is the key of a job's record in SLUICE_JOBS.
func JobKey(backend, workspace string, job JobID) string {
	return join(Token(backend), Token(workspace), Token(string(job)))
}

// LatestKey is the key of an action's newest jobs in SLUICE_JOBS.
func LatestKey(backend, workspace, action string) string {
	return join(Token(backend), Token(workspace), "latest", Token(action))
}

// PlanKey is the key of a request's plan in SLUICE_JOBS.
func PlanKey(backend, workspace string, request RequestID) string {
	return join(Token(backend), Token(workspace), "request", Token(string(request)))
}

// LeaseKey is the key of an attempt's lease in SLUICE_LEASES.
func LeaseKey(backend string, job JobID, attempt int) string {
	return join(Token(backend), Token(string(job)), strconv.Itoa(attempt))
}

// ParseLeaseKey undoes LeaseKey.
func ParseLeaseKey(key string) (backend string, job JobID, attempt int, err error) {
	tokens, err := parseTokens(key, 3)
	if err != nil {
		return "", "", 0, err
	}
	attempt, err = strconv.Atoi(tokens[2])
	if err != nil {
		return "", "", 0, fmt.Errorf("key %s ends with no attempt: %w", Quote(key), err)
	}
	return tokens[0], JobID(tokens[1]), attempt, nil
}

// CommitKey is the key of a job's commit in SLUICE_COMMITS.
func CommitKey(backend string, job JobID) string { return join(Token(backend), Token(string(job))) }

// PresenceKey is the key of a worker's presence in SLUICE_FLEET.
func PresenceKey(backend, worker string) string {
	return join("worker", Token(backend), Token(worker))
}

// SettingKey is the key of a backend's setting in SLUICE_FLEET.
func SettingKey(backend string) string { return join("setting", Token(backend)) }

// LeaderKey is the key of the active planner in SLUICE_FLEET.
const LeaderKey = "leader.planner"

// A KeyKind tells the records in SLUICE_JOBS apart.
type KeyKind string

// Kinds of keys in SLUICE_JOBS.
const (
	KeyJob    KeyKind = "job"
	KeyLatest KeyKind = "latest"
	KeyPlan   KeyKind = "request"
)

// ParseJobsKey says what a key of SLUICE_JOBS holds, and the name in its last
// token: a job's id, an action or a request.
func ParseJobsKey(key string) (kind KeyKind, backend, workspace, name string, err error) {
	tokens, err := parseTokens(key, strings.Count(key, ".")+1)
	switch {
	case err != nil:
		return "", "", "", "", err
	case len(tokens) == 3:
		return KeyJob, tokens[0], tokens[1], tokens[2], nil
	case len(tokens) == 4 && (KeyKind(tokens[2]) == KeyLatest || KeyKind(tokens[2]) == KeyPlan):
		return KeyKind(tokens[2]), tokens[0], tokens[1], tokens[3], nil
	}
	return "", "", "", "", fmt.Errorf("key %s is not one of the jobs register", Quote(key))
}

// A Place is what a subject of a request, a cancellation, an action, files or
// an event says about its message.
type Place struct {
	Kind      string // "request", "cancel", "action", "files", "event"
	Branch    string // of an event: "worker" or "persister"
	Backend   string
	Pool      string // of an action
	Workspace string
	Job       JobID
}

// ParseSubject reads a subject of the fleet. It is what a receiver compares a
// message's own fields with.
func ParseSubject(subject string) (Place, error) {
	tokens, err := parseTokens(subject, strings.Count(subject, ".")+1)
	if err != nil {
		return Place{}, err
	}
	bad := fmt.Errorf("subject %s is not one of the fleet", Quote(subject))
	if len(tokens) < 3 || tokens[0] != Prefix {
		return Place{}, bad
	}
	p, rest := Place{Kind: tokens[1]}, tokens[2:]
	switch {
	case (p.Kind == "request" || p.Kind == "cancel") && len(rest) == 2:
		p.Backend, p.Workspace = rest[0], rest[1]
	case p.Kind == "action" && len(rest) == 4:
		p.Backend, p.Pool, p.Workspace, p.Job = rest[0], rest[1], rest[2], JobID(rest[3])
	case p.Kind == "files" && len(rest) == 3:
		p.Backend, p.Workspace, p.Job = rest[0], rest[1], JobID(rest[2])
	case p.Kind == "event" && len(rest) >= 5 && (rest[0] == "worker" || rest[0] == "persister"):
		p.Branch, p.Backend, p.Workspace, p.Job = rest[0], rest[1], rest[2], JobID(rest[3])
	default:
		return Place{}, bad
	}
	return p, nil
}

func parseTokens(s string, want int) ([]string, error) {
	tokens := strings.Split(s, ".")
	if len(tokens) != want {
		return nil, fmt.Errorf("%s does not have %d tokens", Quote(s), want)
	}
	for i, t := range tokens {
		name, err := ParseToken(t)
		if err != nil {
			return nil, fmt.Errorf("token %d of %s: %w", i+1, Quote(s), err)
		}
		tokens[i] = name
	}
	return tokens, nil
}
