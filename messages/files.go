package messages

import (
	"strings"
	"time"
)

// A Kind is what a listed entry is. Only regular files with one link are ever
// persisted.
type Kind string

// Kinds of entries.
const (
	KindFile     Kind = "file"
	KindLink     Kind = "symbolic link"
	KindHardLink Kind = "hard link"
	KindFIFO     Kind = "FIFO"
	KindSocket   Kind = "socket"
	KindDevice   Kind = "device"
	KindOther    Kind = "other"
)

// A File is one new or changed entry of an attempt's workspace.
type File struct {
	Path   Path      `json:"path"`
	Kind   Kind      `json:"kind"`
	Size   int64     `json:"size,omitempty"`
	Mode   uint32    `json:"mode,omitempty"` // permission bits
	Time   time.Time `json:"time,omitzero"`  // of its last change
	Digest string    `json:"digest,omitempty"`
}

// A Listing is the new and changed files of an attempt, sorted by path. A
// large one lies beside the files in staging; then the message has only its
// digest.
type Listing struct {
	Count  int    `json:"count"`
	Bytes  int64  `json:"bytes"`
	Digest string `json:"digest"`           // of the listing's encoding, see worker.EncodeListing
	Files  []File `json:"files,omitempty"`  // inline up to MaxInlineListing
	Stored bool   `json:"stored,omitempty"` // in staging, file listing.jsonl
}

// MaxInlineListing bounds an inline listing, in encoded bytes; MaxListed the
// entries of any.
const (
	MaxInlineListing = 256 << 10
	MaxListed        = 2_000_000
)

// A Log describes an attempt's log in staging, file log.
type Log struct {
	Bytes  int64  `json:"bytes"`
	Digest string `json:"digest"`
	Cut    int64  `json:"cut,omitempty"` // bytes left out of the middle
}

// A Files message says what an attempt left in staging: what is new, and how
// its container ended. The persister takes the rules from the job's record,
// never from here (I6).
type Files struct {
	Envelope
	Job         JobID     `json:"job"`
	Attempt     int       `json:"attempt"`
	Backend     string    `json:"backend"`
	Workspace   string    `json:"workspace"`
	Worker      string    `json:"worker"`
	Cancelled   bool      `json:"cancelled,omitempty"` // stopped on request: only its log is kept
	ExitCode    int       `json:"exit_code"`
	OOMKilled   bool      `json:"oom_killed,omitempty"`
	TimedOut    bool      `json:"timed_out,omitempty"`
	Reason      string    `json:"reason,omitempty"` // why the worker stopped the container, if it did
	ImageDigest string    `json:"image_digest,omitempty"`
	Started     time.Time `json:"started_at,omitzero"`
	Finished    time.Time `json:"finished_at,omitzero"`
	Listing     Listing   `json:"listing"`
	Log         Log       `json:"log"`
	Given       []Path    `json:"given,omitempty"` // a sample of what was staged, for hints: at most MaxGiven
	Metrics     *Metrics  `json:"metrics,omitempty"`
}

// MaxGiven bounds Files.Given.
const MaxGiven = 500

// Validate reports every rule that the message breaks.
func (f *Files) Validate() error {
	var p Problems
	p.add(checkAttempt(f.Backend, f.Workspace, f.Job, f.Attempt))
	p.add(CheckWorker(f.Worker))
	if f.Listing.Count < 0 || f.Listing.Count > MaxListed || f.Listing.Bytes < 0 {
		p.addf("a listing of %d files is out of bounds", f.Listing.Count)
	}
	if !f.Listing.Stored && len(f.Listing.Files) != f.Listing.Count {
		p.addf("the listing has %d files and says %d", len(f.Listing.Files), f.Listing.Count)
	}
	if len(f.Listing.Files) <= MaxListed {
		for _, file := range f.Listing.Files {
			p.add(file.Check())
		}
	}
	p.text("digest of the listing", f.Listing.Digest, maxWord)
	p.text("digest of the log", f.Log.Digest, maxWord)
	p.text("reason", f.Reason, MaxReason)
	p.text("image_digest", f.ImageDigest, maxWord)
	p.when("started_at", f.Started)
	p.when("finished_at", f.Finished)
	if f.Metrics != nil {
		p.add(f.Metrics.Validate())
	}
	if len(f.Given) > MaxGiven {
		p.addf("given has %d entries; the limit is %d", len(f.Given), MaxGiven)
	}
	for _, path := range f.Given[:min(len(f.Given), MaxGiven)] {
		p.text("an entry of given", string(path), MaxPath)
	}
	return p.Err()
}

// Check reports why an entry of a listing cannot be one.
func (f *File) Check() error {
	var p Problems
	p.add(f.Path.Check())
	if f.Size < 0 {
		p.addf("%s has a negative size", f.Path)
	}
	if f.Kind == KindFile && CheckDigest(f.Digest) != nil {
		p.addf("%s has no digest", f.Path)
	}
	p.text("kind of a file", string(f.Kind), maxWord)
	p.text("digest of a file", f.Digest, maxWord)
	if !f.Time.IsZero() && !Listable(f.Time) { // a study sets it as it likes: its worker leaves others out
		p.addf("the time of %s is not one between 1678 and 2261", f.Path)
	}
	return p.Err()
}

// CheckDigest reports why s is not "sha256:" and 64 hexadecimal digits.
func CheckDigest(s string) error {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return Problems{"digest " + Quote(s) + " is not sha256: and 64 hexadecimal digits"}
	}
	return nil
}
