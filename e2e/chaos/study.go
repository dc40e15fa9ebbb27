package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"sluice/messages"
)

// Kinds of actions.
const (
	plain     = "plain"     // leaves files of both tiers
	slow      = "slow"      // the same, and takes some seconds
	big       = "big"       // the same, with files that take time to copy
	many      = "many"      // the same, with many small files
	withheld  = "withheld"  // a moderately sensitive file of it fails the checks
	broken    = "broken"    // exits non-zero
	unmatched = "unmatched" // leaves a pattern without a file
	gate      = "gate"      // never ends by itself: it is cancelled
)

// An action is one of a study, with what must become of it.
type action struct {
	name  string
	kind  string
	needs []string
	files int
	size  int     // KiB of a file
	pause float64 // seconds
	ends  messages.Code
	again bool // its second run, by name

	racy   bool    // it is cancelled while it may end by itself
	cancel float64 // when a gate or a racy one is: seconds after the request was accepted
}

// A request is one that is submitted.
type request struct {
	id      messages.RequestID
	actions []*action
}

// A study is a workspace with its project and its requests, in waves: one is
// submitted when the one before has finished.
type study struct {
	workspace string
	racy      bool // its actions are cancelled at any time: either end is right
	actions   []*action
	waves     [][]*request
	delay     float64 // of its first wave, as a part of the storm
}

// drawStudies draws about n jobs from a seed.
func drawStudies(r *rand.Rand, n int) []*study {
	count := min(max(n/15, 3), 12)
	studies := make([]*study, count)
	for i := range studies {
		s := &study{workspace: fmt.Sprintf("ws%02d", i), racy: i == count-1}
		if i > 0 {
			s.delay = r.Float64() * 0.3
		}
		s.draw(r, max(n/count, 4))
		studies[i] = s
	}
	return studies
}

func (s *study) draw(r *rand.Rand, n int) {
	// The last quarter belongs to the second wave, a part of which is actions of
	// the first that are asked for again.
	split := n - n/4
	for i := range n {
		s.actions = append(s.actions, s.drawAction(r, i, i >= split))
	}
	first, second := s.actions[:split], slices.Clone(s.actions[split:])
	for _, a := range first {
		if len(second) < n/3 && a.ends == messages.Success && !s.racy && r.IntN(4) == 0 {
			rerun := *a
			rerun.again = true
			second = append(second, &rerun)
		}
	}
	s.waves = append(s.waves, s.requests(r, "a", first))
	if len(second) > 0 {
		s.waves = append(s.waves, s.requests(r, "b", second))
	}
}

// requests deals actions out to two requests, or to one: what another request
// needs must succeed, as a failed action would run again for whoever comes late.
func (s *study) requests(r *rand.Rand, wave string, actions []*action) []*request {
	list := make([]*request, 1+r.IntN(2))
	for i := range list {
		list[i] = &request{id: messages.RequestID(fmt.Sprintf("%s-%s%d", s.workspace, wave, i))}
	}
	of := map[string]int{}
	for i, a := range actions {
		of[a.name] = i * len(list) / len(actions)
		for _, need := range a.needs {
			if other, here := of[need]; here && other != of[a.name] && s.action(need).ends != messages.Success {
				list = list[:1]
				break
			}
		}
	}
	for i, a := range actions {
		to := list[i*len(list)/len(actions)]
		to.actions = append(to.actions, a)
	}
	return slices.DeleteFunc(list, func(q *request) bool { return len(q.actions) == 0 })
}

func (s *study) drawAction(r *rand.Rand, i int, late bool) *action {
	kinds := []string{plain, plain, plain, plain, slow, slow, slow, slow, big, many, withheld, broken, broken, unmatched, gate}
	a := &action{name: fmt.Sprintf("a%02d", i), kind: kinds[r.IntN(len(kinds))], files: 1 + r.IntN(4), size: 1 + r.IntN(16), pause: 0.2 * r.Float64()}
	a.cancel = 6 * r.Float64()
	switch a.kind {
	case slow:
		a.pause = 1 + 3*r.Float64()
	case big:
		a.size = 1024 * (1 + r.IntN(4))
	case many:
		a.files, a.size = 100+r.IntN(100), 1
	}
	if s.racy {
		if a.kind == gate {
			a.kind = slow
		}
		a.ends, a.racy = ownEnd(a.kind), r.IntN(3) > 0
		return a
	}
	for range r.IntN(4) {
		if i == 0 {
			break
		}
		need := s.actions[max(0, i-1-r.IntN(6))]
		// A failure may doom a few, not most. What a gate needs must succeed, or its
		// cancellation would race with that; and so must what the second wave needs,
		// or it would run again.
		if slices.Contains(a.needs, need.name) || need.ends != messages.Success && (a.kind == gate || late || r.IntN(4) != 0) {
			continue
		}
		a.needs = append(a.needs, need.name)
	}
	a.ends = ownEnd(a.kind)
	for _, need := range a.needs {
		if s.action(need).ends != messages.Success {
			a.ends = messages.DependencyFailed
		}
	}
	return a
}

func (s *study) action(name string) *action {
	i := slices.IndexFunc(s.actions, func(a *action) bool { return a.name == name })
	return s.actions[i]
}

// ownEnd is how an action ends that gets to run.
func ownEnd(kind string) messages.Code {
	switch kind {
	case broken:
		return messages.NonzeroExit
	case unmatched:
		return messages.UnmatchedPatterns
	case gate:
		return messages.CancelledByUser
	}
	return messages.Success
}

// project writes the study's project.yaml.
func (s *study) project() string {
	var b strings.Builder
	b.WriteString("version: \"5\"\nactions:\n")
	for _, a := range s.actions {
		fmt.Fprintf(&b, "  %s:\n    run: sh:v1 work.sh %s %s %d %d %.2f", a.name, a.name, a.kind, a.files, a.size, a.pause)
		for _, need := range a.needs {
			fmt.Fprintf(&b, " output/%s/0.csv", need)
		}
		if len(a.needs) > 0 {
			fmt.Fprintf(&b, "\n    needs: [%s]", strings.Join(a.needs, ", "))
		}
		fmt.Fprintf(&b, "\n    outputs:\n      highly_sensitive:\n        rows: output/%s/*.csv\n", a.name)
		if a.kind == unmatched {
			fmt.Fprintf(&b, "        none: output/%s/*.none\n", a.name)
		}
		fmt.Fprintf(&b, "      moderately_sensitive:\n        summary: summary/%s.csv\n", a.name)
	}
	return b.String()
}

// script is what every action runs. What it writes depends on its arguments and
// its inputs alone.
const script = `set -eu
name=$1 kind=$2 files=$3 size=$4 pause=$5
shift 5
sum=$(cat /dev/null "$@" | sha256sum | cut -c1-32)
mkdir -p "output/$name" summary
echo "$name: begins"
half=$(awk "BEGIN { print $pause / 2 }")
sleep "$half"
i=0
while [ $i -lt "$files" ]; do
	{ echo "row,sum"; yes "$name $i,$sum" | head -c $((size * 1024)) || true; echo; } >"output/$name/$i.csv"
	i=$((i + 1))
done
i=0
while [ $i -lt 50 ]; do
	echo "$name: line $i"
	i=$((i + 1))
done
sleep "$half"
case $kind in
withheld) printf 'patient_id,sum\n1,%s\n' "$sum" >"summary/$name.csv" ;;
*) printf 'action,sum\n%s,%s\n' "$name" "$sum" >"summary/$name.csv" ;;
esac
while [ "$kind" = gate ]; do sleep 1; done
echo "$name: ends"
[ "$kind" != broken ]
`
