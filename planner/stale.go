package planner

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice/messages"
	"sluice/planner/project"
)

// A Differ knows which of some files of a study are others at a source's commit
// than at another one. An error says that it cannot be found out.
type Differ interface {
	Differ(ctx context.Context, src messages.Source, commit string, paths []string) ([]string, error)
}

// Bounds of the look for outputs that are out of date. It is a courtesy: beyond
// them nothing is said.
const (
	maxStaleJobs    = 500
	maxStaleCommits = 5
	maxStalePaths   = 1000
	staleTimeout    = 5 * time.Second
)

// A staleJob is one that has succeeded and whose action is another since.
type staleJob struct {
	job    messages.JobID
	action string
}

// stale finds the jobs that a request would go on from though their actions
// have changed since: the run line, needs or outputs, or a file that the run
// line names. The reference says nothing of them, and neither is anything run
// that it would not run; but people are told. In a folder (`sluice run`) such
// actions run again.
func (s *session) stale(ctx context.Context, req *messages.Request, p *project.Project) []staleJob {
	if s.Outputs != nil || req.Commit == messages.WorkingFolder {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, staleTimeout)
	defer cancel()
	standing, err := s.look(ctx, req, p)
	if err != nil {
		return nil // whoever needs it will be told
	}
	planned, _ := Decide(req, p, standing) // an error is told elsewhere, too
	var reused []messages.Planned
	for _, j := range planned {
		if j.Why == messages.WhySucceeded && len(reused) < maxStaleJobs {
			reused = append(reused, j)
		}
	}
	var mu sync.Mutex
	var list []staleJob
	same := map[string][]staleJob{} // by the commit that they ran at
	err = each(ctx, reused, func(ctx context.Context, j messages.Planned) error {
		e, err := s.Jobs.Get(ctx, messages.JobKey(req.Backend, req.Workspace, j.Job))
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		found := staleJob{j.Job, j.Action}
		switch old := e.Value; {
		case changed(p.Action(j.Action), old):
			list = append(list, found)
		case old.Repo == req.Repo && old.Commit != req.Commit && old.Reuses == nil:
			same[old.Commit] = append(same[old.Commit], found)
		}
		return nil
	})
	if err != nil {
		s.log.Debug().Err(err).Msg("what a request goes on from could not be compared with the project")
	}
	return append(list, s.rewritten(ctx, req.Source, p, same)...)
}

// rewritten returns those jobs whose run lines name a file that is another now.
func (s *session) rewritten(ctx context.Context, src messages.Source, p *project.Project, jobs map[string][]staleJob) (list []staleJob) {
	differ, ok := s.Source.(Differ)
	if !ok {
		return nil
	}
	commits := 0
	for commit, ran := range jobs {
		if commits++; commits > maxStaleCommits {
			break
		}
		users := map[string][]staleJob{}
		var paths []string
		for _, j := range ran {
			for _, path := range named(p.Action(j.action)) {
				if users[path] == nil && len(paths) == maxStalePaths {
					continue
				}
				if users[path] == nil {
					paths = append(paths, path)
				}
				users[path] = append(users[path], j)
			}
		}
		different, err := differ.Differ(ctx, src, commit, paths)
		if err != nil {
			continue // one that this planner has not fetched, perhaps
		}
		told := map[messages.JobID]bool{}
		for _, path := range different {
			for _, j := range users[path] {
				if !told[j.job] {
					told[j.job] = true
					list = append(list, j)
				}
			}
		}
	}
	return list
}

// named lists what may be files in an action's run line.
func named(a *project.Action) (paths []string) {
	command, err := a.Command()
	if err != nil {
		return nil
	}
	for _, word := range command[1:] {
		if _, value, ok := strings.Cut(word, "="); ok {
			word = value
		}
		if word != "" && !strings.HasPrefix(word, "-") && len(word) <= messages.MaxPath && !strings.ContainsAny(word, " \n\x00") {
			paths = append(paths, word)
		}
	}
	return paths
}

// staleWarnings are the sentences for those of them that a plan goes on from.
func staleWarnings(stale []staleJob, planned []messages.Planned) (warnings []string) {
	reused := map[messages.JobID]bool{}
	for _, j := range planned {
		reused[j.Job] = j.Reused
	}
	for _, j := range stale {
		if reused[j.job] {
			warnings = append(warnings, fmt.Sprintf("Action '%s' has changed since it last ran, and is not run again: its old outputs are used. Ask for it by name, or force dependencies, to run it again.", j.action))
		}
	}
	return warnings
}
