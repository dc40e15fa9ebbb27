package persister

import "sync"

// projects keeps the actions of the plans that were read last: the jobs of a
// request come together, and a plan of thousands of actions takes longer to read
// than a small job to persist. A job's plan had its actions before the job was
// written, and they never change.
type projects struct {
	mu    sync.Mutex
	known map[string][]string
	order []string // of reading, the oldest first
}

// maxProjects bounds how many are kept.
const maxProjects = 32

func (p *projects) get(plan string) (actions []string, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	actions, known = p.known[plan]
	return actions, known
}

func (p *projects) put(plan string, actions []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.known[plan]; known || len(actions) == 0 {
		return
	}
	if p.known == nil {
		p.known = map[string][]string{}
	}
	if len(p.order) == maxProjects {
		delete(p.known, p.order[0])
		p.order = p.order[1:]
	}
	p.known[plan], p.order = actions, append(p.order, plan)
}
