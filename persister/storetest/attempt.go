package storetest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/messages"
)

// Epoch is when everything in these tests happens.
var Epoch = time.Date(2026, 11, 20, 10, 30, 0, 0, time.UTC)

// NewJob returns the record of a job that runs its first attempt. Rules are
// pairs of a tier and a pattern.
func NewJob(workspace, action, request string, rules ...string) *messages.Job {
	j := &messages.Job{
		Request: messages.RequestID(request), Backend: Backend, Workspace: workspace, Action: action,
		Source: messages.Source{Repo: "https://github.com/opensafely/x", Commit: strings.Repeat("c", 40)},
		Pool:   "default", Weight: 1, Run: "r:v2 " + action, Image: "r:v2", By: "u", Created: Epoch,
		State: messages.Running, Code: messages.Initiated, Attempt: 1,
	}
	j.ID = messages.NewJobID(j.Request, action)
	for i := 0; i+1 < len(rules); i += 2 {
		j.Rules = append(j.Rules, messages.Rule{Tier: messages.Tier(rules[i]), Name: fmt.Sprintf("r%d", i/2), Pattern: rules[i+1]})
	}
	return j
}

// Stage writes an attempt's files into staging as a worker leaves them, with a
// log, and returns the message about them.
func Stage(staging string, j *messages.Job, attempt int, files map[string]string) (*messages.Files, error) {
	base := Dir(staging, j, attempt)
	if err := os.MkdirAll(filepath.Join(base, "files"), 0o755); err != nil {
		return nil, err
	}
	var list []messages.File
	for name, content := range files {
		full := filepath.Join(base, "files", name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(full, []byte(content), 0o600); err != nil {
			return nil, err
		}
		if err := os.Chtimes(full, Epoch, Epoch); err != nil {
			return nil, err
		}
		list = append(list, Entry(name, content))
	}
	if err := LeaveMilestones(base, files); err != nil {
		return nil, err
	}
	log := fmt.Sprintf("2026-11-20T10:30:00Z %s says hello\n", j.Action)
	if err := os.WriteFile(filepath.Join(base, "log"), []byte(log), 0o600); err != nil {
		return nil, err
	}
	return Message(staging, j, attempt, list, log)
}

// Dir is where an attempt's files lie in staging.
func Dir(staging string, j *messages.Job, attempt int) string {
	return filepath.Join(staging, string(j.ID), strconv.Itoa(attempt))
}

// Entry is a regular file in a listing.
func Entry(name, content string) messages.File {
	return messages.File{
		Path: messages.Path(name), Kind: messages.KindFile, Size: int64(len(content)), Mode: 0o600, Time: Epoch,
		Digest: messages.Digest([]byte(content)),
	}
}

// LeaveMilestones leaves the milestones of large files in an attempt's folder, as
// a worker does.
func LeaveMilestones(dir string, files map[string]string) error {
	var all []*messages.Milestones
	for name, content := range files {
		sum := messages.NewSum(int64(len(content)))
		if _, err := io.WriteString(sum, content); err != nil {
			return err
		}
		if m := sum.Milestones(messages.Path(name)); m != nil {
			all = append(all, m)
		}
	}
	if all == nil {
		return nil
	}
	data, err := messages.EncodeMilestones(all)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, messages.MilestonesFile), data, 0o600)
}

// Message returns the message about an attempt with this listing, which it
// stores in staging if it is large.
func Message(staging string, j *messages.Job, attempt int, list []messages.File, log string) (*messages.Files, error) {
	listing, stored, err := messages.NewListing(slices.Clone(list))
	if err != nil {
		return nil, err
	}
	if stored != nil {
		if err := os.WriteFile(filepath.Join(Dir(staging, j, attempt), "listing.jsonl"), stored, 0o600); err != nil {
			return nil, err
		}
	}
	return &messages.Files{
		Job: j.ID, Attempt: attempt, Backend: j.Backend, Workspace: j.Workspace, Worker: "w1",
		ImageDigest: messages.Digest([]byte("image")), Started: Epoch.Add(time.Second), Finished: Epoch.Add(time.Minute),
		Listing: listing, Log: messages.Log{Bytes: int64(len(log)), Digest: messages.Digest([]byte(log))},
	}, nil
}

// Tree reads all regular files beneath a folder, by their paths. Anything else
// than files and folders is an error.
func Tree(root string) (map[string]string, error) {
	tree := map[string]string{}
	err := filepath.WalkDir(root, func(name string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%q is a %s", rel, e.Type())
		}
		data, err := os.ReadFile(name)
		tree[rel] = string(data)
		return err
	})
	return tree, err
}
