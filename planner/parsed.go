package planner

import (
	"crypto/sha256"
	"slices"
	"sync"

	"sluice/planner/project"
)

// Bounds of what parsed keeps. A parsed file takes some twenty times its size.
const (
	mostParsed    = 4
	largestParsed = 512 << 10 // bytes of a file
)

// parsed keeps the newest project files that were understood: the requests of a
// busy study are for the same one, and to parse a thousand actions takes as long
// as a few of them take on their way.
type parsed struct {
	mu    sync.Mutex
	files []parsedFile // the one used last first
}

type parsedFile struct {
	sum     [sha256.Size]byte
	project *project.Project // never handed out itself
}

// parse parses a project file, or returns a copy of what became of it before.
func (k *parsed) parse(file []byte) (*project.Project, project.Problems) {
	if len(file) > largestParsed {
		return project.Parse(file)
	}
	sum := sha256.Sum256(file)
	if p := k.find(sum); p != nil {
		return p.Clone(), nil
	}
	p, problems := project.Parse(file)
	if len(problems) > 0 {
		return nil, problems
	}
	k.keep(parsedFile{sum, p.Clone()})
	return p, nil
}

func (k *parsed) find(sum [sha256.Size]byte) *project.Project {
	k.mu.Lock()
	defer k.mu.Unlock()
	i := slices.IndexFunc(k.files, func(f parsedFile) bool { return f.sum == sum })
	if i < 0 {
		return nil
	}
	f := k.files[i]
	k.files = slices.Insert(slices.Delete(k.files, i, i+1), 0, f)
	return f.project
}

func (k *parsed) keep(f parsedFile) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.files = slices.DeleteFunc(k.files, func(g parsedFile) bool { return g.sum == f.sum }) // by another, meanwhile
	k.files = slices.Insert(k.files, 0, f)
	k.files = slices.Delete(k.files, min(mostParsed, len(k.files)), len(k.files))
}
