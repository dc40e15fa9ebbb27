package worker

import (
	"context"
	"fmt"
	"time"
)

// A verdict that does not come is asked for: the first time after a minute,
// then after four times as long each time.
const (
	askAfter = time.Minute
	askMost  = 4 // then at the next reconnect or start: what gets no answer was put into the dead letters
)

// missVerdicts has all verdicts asked for that are waited for: the connection
// was lost, and with it perhaps one of them.
func (w *Worker) missVerdicts() {
	select {
	case w.missed <- struct{}{}:
	default:
	}
}

// remind asks for verdicts that do not come, by handing the files over again.
// The persister does nothing twice, and answers each time.
func (w *Worker) remind(ctx context.Context) {
	ticker := time.NewTicker(askAfter / 4)
	defer ticker.Stop()
	for {
		all := false
		select {
		case <-ctx.Done():
			return
		case <-w.missed:
			all = true
		case <-ticker.C:
		}
		for _, a := range w.unheard(all) {
			files := a.entry.Files
			id := fmt.Sprintf("files/%s/%d/%s/%d", files.Job, files.Attempt, w.nonce, a.asked)
			if err := w.Outbox.Publish(ctx, files.Subject(), files, id); err != nil && ctx.Err() == nil {
				a.log.Warn().Err(err).Msg("verdict could not be asked for")
			}
		}
	}
}

// unheard returns attempts whose verdict is to be asked for now, and counts
// that as done.
func (w *Worker) unheard(all bool) (list []*attempt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, a := range w.attempts {
		if !a.done || !a.listed || a.verdict != nil || !all && (a.asked >= askMost || now.Before(a.askAt)) {
			continue
		}
		a.askAt = now.Add(askAfter << (2 * min(a.asked+1, askMost)))
		a.asked++
		list = append(list, a)
	}
	return list
}
