package messages

import (
	"crypto/sha1" //nolint:gosec // the reference's job ids are SHA-1; not a security boundary
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of names, in bytes. An action's name becomes a file name, the rest
// become subject tokens.
const (
	MaxNameLength   = 100
	MaxActionLength = 240
)

// A JobID names one action of one request.
type JobID string

// A RequestID names what a job server asked for. The job server chooses it.
type RequestID string

// NewJobID derives a job's id as the OpenSAFELY job runner does
// (controller/models.py, deterministic_id): the first ten bytes of
// sha1("REQUEST\nACTION") in lower-case base32. The same request therefore
// always makes the same jobs.
func NewJobID(request RequestID, action string) JobID {
	sum := sha1.Sum([]byte(string(request) + "\n" + action)) //nolint:gosec // see the import
	return JobID(strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10])))
}

// Check reports why id is not the id of a job.
func (id JobID) Check() error {
	if len(id) != 16 || strings.Trim(string(id), "abcdefghijklmnopqrstuvwxyz234567") != "" {
		return fmt.Errorf("job id %s is not 16 characters of a-z and 2-7", Quote(string(id)))
	}
	return nil
}

// Check reports why id is not the id of a request.
func (id RequestID) Check() error {
	switch {
	case id == "":
		return errors.New("the request has no id")
	case len(id) > MaxNameLength:
		return fmt.Errorf("request id is %d bytes long; the limit is %d", len(id), MaxNameLength)
	case !allOf(string(id), isWordByte):
		return fmt.Errorf("request id %s has a character other than A-Z, a-z, 0-9, dash and underscore", Quote(string(id)))
	}
	return nil
}

// CheckBackend reports why s is not the name of a backend.
func CheckBackend(s string) error {
	if s == "" || len(s) > MaxNameLength || !allOf(s, isLowerByte) {
		return fmt.Errorf("invalid backend name %s (allowed are lower-case letters, digits and dash)", Quote(s))
	}
	return nil
}

// CheckPool reports why s is not the name of a pool.
func CheckPool(s string) error {
	if s == "" || len(s) > MaxNameLength || !allOf(s, isLowerByte) {
		return fmt.Errorf("invalid pool name %s (allowed are lower-case letters, digits and dash)", Quote(s))
	}
	return nil
}

// CheckWorker reports why s is not the name of a worker.
func CheckWorker(s string) error {
	if s == "" || len(s) > MaxNameLength || !allOf(s, isWordByte) {
		return fmt.Errorf("invalid worker name %s (allowed are letters, digits, dash and underscore)", Quote(s))
	}
	return nil
}

// CheckWorkspace reports why s is not the name of a workspace, in the words of
// the reference (controller/create_or_update_jobs.py).
func CheckWorkspace(s string) error {
	switch {
	case s == "":
		return errors.New("Workspace name cannot be blank")
	case !allOf(s, isWordByte):
		return errors.New("Invalid workspace name (allowed are alphanumeric, dash and underscore)")
	case len(s) > MaxNameLength:
		return fmt.Errorf("workspace name is %d bytes long; the limit is %d", len(s), MaxNameLength)
	}
	return nil
}

// CheckAction reports why s cannot be the name of an action. A project file
// may use nearly any characters; what cannot be a file name is refused.
func CheckAction(s string) error {
	switch {
	case s == "" || s == "." || s == "..":
		return fmt.Errorf("%s cannot be the name of an action", Quote(s))
	case len(s) > MaxActionLength:
		return fmt.Errorf("an action's name is %d bytes long; the limit is %d", len(s), MaxActionLength)
	case strings.ContainsAny(s, "/\x00") || !utf8.ValidString(s):
		return fmt.Errorf("action name %s has a character that cannot be part of a file name", Quote(s))
	}
	return nil
}

// Quote returns s quoted for a message, cut to a length that a reader bears.
func Quote(s string) string {
	const limit = 120
	if len(s) > limit {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(s[:limit], ""))
	}
	return fmt.Sprintf("%q", s)
}

func allOf(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isLowerByte(b byte) bool {
	return 'a' <= b && b <= 'z' || '0' <= b && b <= '9' || b == '-'
}

func isWordByte(b byte) bool {
	return isLowerByte(b) || 'A' <= b && b <= 'Z' || b == '_'
}
