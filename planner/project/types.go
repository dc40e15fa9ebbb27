package project

import (
	"encoding/json"
	"errors"
	"slices"
	"strconv"
)

// LatestVersion is the newest version of the project file's format.
const LatestVersion = 5

// RunAll is the name that asks for every action of a project. From version 5
// no action may have it; before, an action of that name is kept, but does not
// run when everything is asked for.
const RunAll = "run_all"

// The levels of sensitivity, spelled as project files spell them.
const (
	HighlySensitive     = "highly_sensitive"
	ModeratelySensitive = "moderately_sensitive"
	MinimallySensitive  = "minimally_sensitive"
)

// allLevels in the order in which they are checked and printed.
var allLevels = []string{HighlySensitive, ModeratelySensitive, MinimallySensitive}

// A Version is the format that a project file is written in. Formats have been
// whole numbers so far, but a file may say 4.5, or nothing that makes sense.
type Version float64

// String prints v as the sentences of this package do: 5.0, not 5.
func (v Version) String() string { return pythonFloat(float64(v)) }

// MarshalJSON prints v as a JSON number with a fraction: 5.0. What JSON has no
// number for (inf, nan) becomes a string.
func (v Version) MarshalJSON() ([]byte, error) {
	text := v.String()
	if v-v != 0 {
		text = strconv.Quote(text)
	}
	return []byte(text), nil
}

// A Project is a valid project file.
type Project struct {
	Version  Version
	Actions  []*Action // in the file's order; one named run_all included
	Warnings []string  // what works but is out of date

	// PopulationSize is the size of a dummy population, in decimal digits. Version
	// 3 has it in the file; every other version has 1000.
	PopulationSize string

	byName map[string]*Action
	graph  graph
}

// Clone returns a project that can be changed (Reuse, Refuse, Digest, Unpinned)
// without the first one. What both share is never changed, only replaced.
func (p *Project) Clone() *Project {
	c := *p
	c.Actions, c.byName = make([]*Action, len(p.Actions)), make(map[string]*Action, len(p.Actions))
	all := make([]Action, len(p.Actions))
	for i, a := range p.Actions {
		all[i] = *a
		c.Actions[i], c.byName[a.Name] = &all[i], &all[i]
	}
	return &c
}

// Action returns the action of that name, or nil.
func (p *Project) Action(name string) *Action { return p.byName[name] }

// An Action is one step of a project.
type Action struct {
	Name string
	Line int // of the name in the file, from 1

	Run   string   // the run line as written
	Image string   // its first word, name:version
	Args  []string // the words after it; --config is not among them

	ImageName    string // the image before its first colon
	ImageVersion string // the image after it

	Needs   []string // names of the actions whose outputs it reads, as written
	Outputs []Output // highly sensitive ones first; each level in file order

	Config        json.RawMessage // the config section as JSON; nil if there is none
	DummyDataFile string          // empty if there is none

	IsDatabase bool // whether the action reads the database

	// Of a reusable action (Reuse): whose code it runs. Empty otherwise.
	Repo   string
	Commit string

	Digest   string // of the image that it runs, where that was looked up; "sha256:…"
	Unpinned error  // why Digest is not known, though it was looked up

	levels  []string // levels that have a section, if only an empty one
	command []string // image, args and --config
	unfit   string   // why there is no command, if there is none
}

// An Output is a named pattern for files that an action leaves.
type Output struct {
	Level   string // HighlySensitive, ModeratelySensitive or MinimallySensitive
	Name    string // as the file spells it; unique within a level
	Pattern string // a relative path; * matches inside one path element
	Line    int    // of the pattern in the file, from 1
}

// Command returns the words that the action runs: the image, its arguments
// and, if it has a config section, --config with the section as JSON. The
// error is a sentence for the user: the section holds what JSON cannot, such
// as a date. (The format allows that, so the file is valid all the same.)
func (a *Action) Command() ([]string, error) {
	if a.unfit != "" {
		return nil, errors.New(a.unfit)
	}
	return slices.Clone(a.command), nil
}

// RunCommand is Command as one line that Split takes apart again.
func (a *Action) RunCommand() (string, error) {
	words, err := a.Command()
	return Join(words), err
}
