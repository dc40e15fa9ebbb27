package persister

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sluice/messages"
)

// A Manifest is a workspace's manifest.json, in the reference's schema
// (agent/executors/local.py). Both tiers have the same one. Fields that a
// later version adds are kept.
//
// A workspace may have many thousand outputs, of which a job brings a few. So an
// entry that is in a manifest is not changed any more (see change), clones share
// it, and its text is kept.
type Manifest struct {
	Workspace string
	Outputs   map[messages.Path]*ManifestEntry
	extra     map[string]json.RawMessage
}

// A ManifestEntry says where an output came from and what became of it. In a
// manifest it stays as it is.
type ManifestEntry struct {
	Level       messages.Tier  `json:"level"`
	Job         messages.JobID `json:"job_id"`
	Request     string         `json:"job_request"`
	Action      string         `json:"action"`
	User        string         `json:"user"`
	Repo        string         `json:"repo"`
	Commit      string         `json:"commit"`
	Size        int64          `json:"size"`
	Timestamp   float64        `json:"timestamp"`    // of the file's last change, in seconds
	ContentHash string         `json:"content_hash"` // SHA-256, hexadecimal
	Excluded    bool           `json:"excluded"`     // kept out of the moderately sensitive tier
	Message     *string        `json:"message"`      // why
	RowCount    *int           `json:"row_count"`
	ColCount    *int           `json:"col_count"`

	// Of an output that its action, or the project, no longer makes.
	OutOfDateAction *bool `json:"out_of_date_action,omitempty"`
	OutOfDateOutput *bool `json:"out_of_date_output,omitempty"`

	// Ours: the moderately sensitive copy was removed by this job, since the
	// action no longer puts the file there.
	RemovedBy messages.JobID `json:"removed_from_moderately_sensitive_by,omitempty"`

	extra map[string]json.RawMessage
	text  []byte // as a manifest has it; nil until it is known
}

// shared reports whether the moderately sensitive tier has the file.
func (e *ManifestEntry) shared() bool {
	return e.Level == messages.ModeratelySensitive && !e.Excluded && e.RemovedBy == ""
}

// withheld reports whether a message stands there in place of the file.
func (e *ManifestEntry) withheld() bool {
	return e.Level == messages.ModeratelySensitive && e.Excluded && e.RemovedBy == ""
}

// medium returns what the moderately sensitive tier has of the file at p: it, or a
// message about it, or nothing.
func (e *ManifestEntry) medium(p messages.Path) messages.Path {
	switch {
	case e.shared():
		return p
	case e.withheld():
		return messagePath(p)
	}
	return ""
}

// obsolete reports whether the entry's action no longer makes it.
func (e *ManifestEntry) obsolete() bool { return e.OutOfDateOutput != nil && *e.OutOfDateOutput }

// gone reports whether the project no longer has the entry's action.
func (e *ManifestEntry) gone() bool { return e.OutOfDateAction != nil && *e.OutOfDateAction }

// NewManifest returns the manifest of an empty workspace.
func NewManifest(workspace string) *Manifest {
	return &Manifest{Workspace: workspace, Outputs: map[messages.Path]*ManifestEntry{}}
}

// ParseManifest reads a workspace's manifest.
func ParseManifest(data []byte) (*Manifest, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	m := NewManifest("")
	var outputs map[string]json.RawMessage
	for name, field := range map[string]any{"workspace": &m.Workspace, "outputs": &outputs} {
		if value, ok := raw[name]; ok {
			if err := json.Unmarshal(value, field); err != nil {
				return nil, fmt.Errorf("read manifest: %s: %w", name, err)
			}
		}
		delete(raw, name)
	}
	m.extra = raw
	for key, value := range outputs {
		p, err := parseManifestKey(key)
		if err != nil {
			return nil, fmt.Errorf("read manifest: %w", err)
		}
		if m.Outputs[p], err = parseEntry(value); err != nil {
			return nil, fmt.Errorf("read manifest: output %s: %w", p, err)
		}
	}
	return m, nil
}

// parseEntry reads an entry. One that has the text of the fields that we know has
// no others: to look for those takes longer than all the rest.
func parseEntry(data []byte) (*ManifestEntry, error) {
	e := &ManifestEntry{}
	if err := json.Unmarshal(data, (*plainEntry)(e)); err != nil {
		return nil, err
	}
	text, err := e.encode()
	if err != nil {
		return nil, err
	}
	if bytes.Equal(text, data) {
		e.text = data
		return e, nil
	}
	*e = ManifestEntry{}
	return e, json.Unmarshal(data, e)
}

// change replaces an entry by one that is changed: clones have the old one.
func (m *Manifest) change(p messages.Path, how func(e *ManifestEntry)) {
	e := *m.Outputs[p]
	e.text = nil
	how(&e)
	m.Outputs[p] = &e
}

// Clone returns a copy that can be changed.
func (m *Manifest) Clone() *Manifest {
	c := *m
	c.Outputs = maps.Clone(m.Outputs)
	return &c
}

type plainEntry ManifestEntry

// UnmarshalJSON keeps fields that it does not know.
func (e *ManifestEntry) UnmarshalJSON(data []byte) error {
	if err := json.Unmarshal(data, (*plainEntry)(e)); err != nil {
		return err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return err
	}
	maps.DeleteFunc(all, func(name string, _ json.RawMessage) bool {
		return slices.ContainsFunc(entryFields, func(known string) bool { return strings.EqualFold(known, name) }) // as the decoder does
	})
	if len(all) > 0 {
		e.extra = all
	}
	return nil
}

// MarshalJSON writes the fields in their order, those that it does not know
// last.
func (e *ManifestEntry) MarshalJSON() ([]byte, error) {
	data, err := encodePlain((*plainEntry)(e))
	if err != nil || len(e.extra) == 0 {
		return data, err
	}
	extra, err := encodePlain(e.extra)
	if err != nil {
		return nil, err
	}
	return append(append(data[:len(data)-1], ','), extra[1:]...), nil
}

// entryFields names the fields of an entry that this version knows.
var entryFields = []string{
	"level", "job_id", "job_request", "action", "user", "repo", "commit",
	"size", "timestamp", "content_hash", "excluded", "message", "row_count", "col_count",
	"out_of_date_action", "out_of_date_output", "removed_from_moderately_sensitive_by",
}

// rawKey marks the key of a path that is not UTF-8, which JSON could not hold.
const rawKey = "base64:"

func manifestKey(p messages.Path) string {
	if utf8.ValidString(string(p)) && !strings.HasPrefix(string(p), rawKey) {
		return string(p)
	}
	return rawKey + base64.StdEncoding.EncodeToString([]byte(p))
}

func parseManifestKey(key string) (messages.Path, error) {
	encoded, ok := strings.CutPrefix(key, rawKey)
	if !ok {
		return messages.Path(key), nil
	}
	p, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return "", fmt.Errorf("output %s: %w", messages.Quote(key), err)
	}
	if manifestKey(messages.Path(p)) != key { // another could be the same path's
		return "", fmt.Errorf("output %s: its name needs no such key", messages.Quote(key))
	}
	return messages.Path(p), nil
}

// seconds is a time as Python's st_mtime has it.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}
