package staging

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"sluice/messages"
)

// maxLeft bounds the attempts whose staging is kept for people to look at.
const maxLeft = 20

// leftFile, in an attempt's folder, says until when it is kept.
const leftFile = "kept-until"

// A left is an attempt's staging that is kept.
type left struct {
	job     messages.JobID
	attempt int
	until   time.Time
}

// Leave ends an attempt by a fault of ours: what it has in staging stays for as
// long as Config.Failed says, so that people can see what went wrong. The
// reference keeps it, too, and for ever.
func (a *Area) Leave(job messages.JobID, attempt int) error {
	dir := a.Dir(job, attempt)
	if _, err := os.Stat(dir); a.cfg.Failed <= 0 || err != nil {
		return a.Remove(job, attempt)
	}
	if err := unmount(filepath.Join(dir, "workspace")); err != nil {
		return err
	}
	until := time.Now().Add(a.cfg.Failed)
	if err := os.WriteFile(filepath.Join(dir, leftFile), []byte(until.UTC().Format(time.RFC3339)), 0o600); err != nil {
		return errors.Join(err, a.Remove(job, attempt))
	}
	a.keepLeft(left{job, attempt, until})
	return nil
}

// keepLeft has one removed when its time is over, and the oldest at once when
// there are too many.
func (a *Area) keepLeft(l left) {
	a.leftMu.Lock()
	defer a.leftMu.Unlock()
	a.left = append(a.left, l)
	slices.SortFunc(a.left, func(x, y left) int { return x.until.Compare(y.until) })
	for len(a.left) > maxLeft {
		a.dropLeft(a.left[0])
	}
	time.AfterFunc(time.Until(l.until), func() {
		a.leftMu.Lock()
		defer a.leftMu.Unlock()
		a.dropLeft(l)
	})
}

// dropLeft removes one that is still kept. Called with leftMu held.
func (a *Area) dropLeft(l left) {
	i := slices.Index(a.left, l)
	if i < 0 {
		return
	}
	a.left = slices.Delete(a.left, i, i+1)
	if err := a.Remove(l.job, l.attempt); err != nil {
		a.cfg.Log.Warn().Err(err).Msg("staging of a failed attempt could not be removed; it is tried again at the next start")
	}
}

// DropLeft removes all that is kept only for people to look at. It reports
// whether there was any.
func (a *Area) DropLeft() bool {
	a.leftMu.Lock()
	defer a.leftMu.Unlock()
	had := len(a.left) > 0
	for len(a.left) > 0 {
		a.dropLeft(a.left[0])
	}
	return had
}

// stays reports whether the staging of an attempt that nobody has in hand is
// kept, and goes on keeping it.
func (a *Area) stays(job messages.JobID, attempt int) bool {
	data, err := os.ReadFile(filepath.Join(a.Dir(job, attempt), leftFile))
	if err != nil || a.cfg.Failed <= 0 {
		return false
	}
	until, err := time.Parse(time.RFC3339, string(data))
	if err != nil || !time.Now().Before(until) {
		return false
	}
	if latest := time.Now().Add(a.cfg.Failed); until.After(latest) { // the setting, or the clock, was another
		until = latest
	}
	a.keepLeft(left{job, attempt, until})
	return true
}
