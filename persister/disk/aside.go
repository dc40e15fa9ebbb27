package disk

import (
	"path"
	"strconv"

	"sluice/messages"
	"sluice/persister"
)

// asideDir is the folder, beside an attempt's log, of the files of a job that
// failed where the backend keeps them out of its workspace.
const asideDir = "files"

// planAside works out the steps for a job that failed: its files go beside its
// log, and its workspace gets the log alone.
func (d *draft) planAside(p *persister.Publication, record []move) (*plan, error) {
	steps := &plan{Schema: planSchema, Attempt: d.at}
	folder := path.Join(messages.RecordMonth(d.at.Created), string(d.at.Job), strconv.Itoa(d.at.Number), asideDir)
	for i := range p.Outputs {
		to := messages.Path(path.Join(folder, string(p.Outputs[i].Path)))
		if len(to) >= messages.MaxPath {
			continue // no path leads there; it is gone with the draft, and the metadata says that it was there
		}
		m, err := d.output(i, logsTree, to)
		if err != nil {
			return nil, err
		}
		steps.Moves = append(steps.Moves, m)
	}
	steps.Moves = append(steps.Moves, record...)
	if err := d.planLogs(p, steps); err != nil {
		return nil, err
	}
	return steps, nil
}
