package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A toll counts what has struck a fleet, by what kind of process was struck:
// worker, planner, persister, nats.
type toll struct {
	blows  map[string]int
	points map[string]int // fault points at which something happened, each time
	names  int            // of them
}

// strikes counts a blow to a process.
func (f *fleet) strikes(name string) {
	f.struckMu.Lock()
	defer f.struckMu.Unlock()
	f.struck[kindOf(name)]++
}

func kindOf(name string) string {
	kind, _, _ := strings.Cut(name, "-")
	return kind
}

// toll is what has struck the fleet until now.
func (f *fleet) toll() toll {
	f.struckMu.Lock()
	t := toll{blows: maps.Clone(f.struck), points: map[string]int{}}
	f.struckMu.Unlock()
	names := map[string]bool{}
	notes, _ := filepath.Glob(f.path("logs", "*.faults", "*.hit")) // none if that fails
	for _, note := range notes {
		names[filepath.Base(note)] = true
		text, _ := os.ReadFile(note)
		t.points[kindOf(filepath.Base(filepath.Dir(note)))] += strings.Count(string(text), "\n")
	}
	t.names = len(names)
	return t
}

// mostLost bounds the attempts that can be lost to it. What strikes a worker,
// its engine or its link costs an attempt of each of its slots; so does a server,
// whose clients have all found another one before leases and their grace are
// over. A planner or a persister loses none, whatever strikes it, nor does a
// full tier.
func (t toll) mostLost() int {
	return slots * (t.blows["worker"] + t.points["worker"] + t.blows["nats"])
}

func (t toll) String() string {
	var list []string
	for _, kind := range slices.Sorted(maps.Keys(t.blows)) {
		list = append(list, fmt.Sprintf("%d at a %s", t.blows[kind], kind))
	}
	for _, kind := range slices.Sorted(maps.Keys(t.points)) {
		list = append(list, fmt.Sprintf("%d at fault points of a %s", t.points[kind], kind))
	}
	return fmt.Sprintf("%s; %d different fault points", strings.Join(list, ", "), t.names)
}
