package persister

// InTheWay lists the files of each tier that lie where a new output needs a
// folder, or beneath where it needs a file.
type InTheWay struct{}

// An Arrangement is what a change makes of its workspace.
type Arrangement struct{}

// An Output is a file that a job's commit makes visible.
type Output struct{}
