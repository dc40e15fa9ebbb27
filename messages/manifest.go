package messages

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// A JobManifest lists the files that a job's commit made visible. The persister
// writes it beside the job's record; its digest is in the commit, so a worker
// that reads it as an input knows that it is the one.
type JobManifest struct {
	Envelope
	Job       JobID          `json:"job"`
	Attempt   int            `json:"attempt"`
	Backend   string         `json:"backend"`
	Workspace string         `json:"workspace"`
	Action    string         `json:"action"`
	Files     []ManifestFile `json:"files"` // sorted by path
	At        time.Time      `json:"at"`

	// Aside says that the job failed and its files are not in its workspace: they
	// lie beside the attempt's log, in the folder files.
	Aside bool `json:"aside,omitempty"`
}

// A ManifestFile is one file of a job in the highly sensitive tier.
type ManifestFile struct {
	Path     Path   `json:"path"`
	Size     int64  `json:"size"`
	Digest   string `json:"digest"`
	Tier     Tier   `json:"tier"`               // where the rules put it
	Withheld string `json:"withheld,omitempty"` // why it is not in the moderately sensitive tier, though its rule says so
}

// MaxManifest bounds an encoded job manifest, in bytes: it lies on the disk,
// not in a message.
const MaxManifest = 1 << 30

// Validate reports every rule that the manifest breaks.
func (m *JobManifest) Validate() error {
	var p Problems
	p.add(checkAttempt(m.Backend, m.Workspace, m.Job, m.Attempt))
	p.add(CheckAction(m.Action))
	p.when("at", m.At)
	p.count("files", len(m.Files), MaxListed)
	for _, f := range m.Files {
		p.add(f.Path.Check())
		p.add(CheckDigest(f.Digest))
		if f.Size < 0 || f.Tier.Protection() == 0 {
			p.addf("%s has no tier or a negative size", f.Path)
		}
		p.text("why a file is withheld", f.Withheld, MaxReason)
		if len(p) > 20 {
			break
		}
	}
	return p.Err()
}

// Digest returns the digest of bytes, as it is spelled everywhere.
func Digest(data []byte) string {
	sum := sha256.Sum256(data)
	return FormatDigest(sum[:])
}

// FormatDigest spells a SHA-256 sum.
func FormatDigest(sum []byte) string { return "sha256:" + hex.EncodeToString(sum) }

// RecordMonth returns the name of the folder that holds the records of jobs
// created at a time: the month, in UTC.
func RecordMonth(created time.Time) string { return created.UTC().Format("2006-01") }
