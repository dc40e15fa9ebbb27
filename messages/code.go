package messages

import "fmt"

// A State says where a job is in its life. It moves forward only, but for the
// resets that a Code names.
type State string

// States of a job, spelled as upstream spells them.
const (
	Pending   State = "pending"
	Running   State = "running"
	Succeeded State = "succeeded"
	Failed    State = "failed"
)

// Final reports whether a job in this state has ended for ever (I2).
func (s State) Final() bool { return s == Succeeded || s == Failed }

// A Code says why a job is in its state. The list is closed and a spelling
// never changes: machines match on it.
type Code string

// Codes of a pending job.
const (
	Created               Code = "created"
	WaitingOnDependencies Code = "waiting_on_dependencies"
	WaitingOnWorkers      Code = "waiting_on_workers"
	WaitingOnDBWorkers    Code = "waiting_on_db_workers"
	Paused                Code = "paused"
	WaitingDBMaintenance  Code = "waiting_db_maintenance"
	WaitingOnReboot       Code = "waiting_on_reboot"
	WaitingOnNewTask      Code = "waiting_on_new_task"
)

// Codes of a running job.
const (
	Initiated  Code = "initiated" // dispatched, not yet taken by a worker
	Preparing  Code = "preparing" // a worker stages code and inputs
	Prepared   Code = "prepared"
	Executing  Code = "executing"
	Executed   Code = "executed"
	Finalizing Code = "finalizing" // the files wait for the persister
	Finalized  Code = "finalized"  // the commit exists
)

// Codes of a job that has ended.
const (
	Success           Code = "succeeded"
	NonzeroExit       Code = "nonzero_exit"
	UnmatchedPatterns Code = "unmatched_patterns"
	DependencyFailed  Code = "dependency_failed"
	CancelledByUser   Code = "cancelled_by_user"
	KilledByAdmin     Code = "killed_by_admin"
	StaleCodelists    Code = "stale_codelists"
	InternalError     Code = "internal_error"
	JobError          Code = "job_error"     // cannot be run as written: its image does not exist, it is too heavy, …
	OutOfMemory       Code = "out_of_memory" // ours
	TimedOut          Code = "timed_out"     // ours
)

// Codes of a request that makes no job.
const (
	InvalidRequest Code = "invalid_request"
	InvalidProject Code = "invalid_project"
	NothingToDo    Code = "nothing_to_do"
)

type codeFact struct {
	state   State
	message string
}

// codes is the closed list. Messages are the reference's own (controller/main.py)
// where it has one.
var codes = map[Code]codeFact{
	Created:               {Pending, "Created"},
	WaitingOnDependencies: {Pending, "Waiting on dependencies"},
	WaitingOnWorkers:      {Pending, "Waiting on available workers"},
	WaitingOnDBWorkers:    {Pending, "Waiting on available database workers"},
	Paused:                {Pending, "Backend is currently paused for maintenance, job will start once this is completed"},
	WaitingDBMaintenance:  {Pending, "Waiting for database to finish maintenance"},
	WaitingOnReboot:       {Pending, "Job restarted - waiting for server to reboot"},
	WaitingOnNewTask:      {Pending, "This job returned an error that could be retried with a new task."},

	Initiated:  {Running, "Job executing on the backend"},
	Preparing:  {Running, "Preparing your code and workspace files"},
	Prepared:   {Running, "Prepared and ready to run"},
	Executing:  {Running, "Executing job on the backend"},
	Executed:   {Running, "Job has finished executing and is waiting to be finalized"},
	Finalizing: {Running, "Recording job results"},
	Finalized:  {Running, "Finished recording results"},

	Success:           {Succeeded, "Completed successfully"},
	NonzeroExit:       {Failed, "Job exited with an error"},
	UnmatchedPatterns: {Failed, "Outputs matching expected patterns were not found. See job log for details."},
	DependencyFailed:  {Failed, "Not starting as dependency failed"},
	CancelledByUser:   {Failed, "Cancelled by user"},
	KilledByAdmin:     {Failed, "An OpenSAFELY admin manually killed this job"},
	StaleCodelists:    {Failed, "Codelists are out of date"},
	InternalError:     {Failed, "Internal error: this usually means a platform issue rather than a problem for users to fix."},
	JobError:          {Failed, "The job cannot be run as it is written"},
	OutOfMemory:       {Failed, "Job ran out of memory"},
	TimedOut:          {Failed, "Job was stopped at its time limit"},
}

// Codes returns every code that a job can have, in no order.
func Codes() []Code {
	list := make([]Code, 0, len(codes))
	for c := range codes {
		list = append(list, c)
	}
	return list
}

// State returns the state that the code belongs to, or "" for a code that no
// job can have.
func (c Code) State() State { return codes[c].state }

// Message returns the sentence that users know the code by.
func (c Code) Message() string { return codes[c].message }

// Final reports whether a job with this code has ended.
func (c Code) Final() bool { return c.State().Final() }

// Check reports a code that no job can have.
func (c Code) Check() error {
	if c.State() == "" {
		return fmt.Errorf("%s is not the code of a job", Quote(string(c)))
	}
	return nil
}

// Error makes a Code usable as the target of errors.Is.
func (c Code) Error() string { return string(c) }

// runningOrder is the order in which a running job passes its codes.
var runningOrder = map[Code]int{
	Initiated: 1, Preparing: 2, Prepared: 3, Executing: 4, Executed: 5, Finalizing: 6, Finalized: 7,
}

// CanMove reports whether a job may go from one code to another. It is the
// whole table of allowed transitions:
//
//   - nothing leaves a final code (I2);
//   - a pending job moves between pending codes, starts (initiated), or ends;
//   - a running job moves forward, skipping codes whose event was lost; it
//     starts over when an attempt was lost (initiated), is reset to pending,
//     or ends;
//   - dependency_failed and stale_codelists end only what is not running.
func CanMove(from, to Code) bool {
	switch {
	case from.State() == "" || to.State() == "" || from.Final():
		return false
	case from.State() == Pending && to.State() == Pending:
		return from != to && to != Created
	case from.State() == Pending && to.State() == Running:
		return to == Initiated
	case from.State() == Pending:
		return endsUnstarted[to]
	case to.State() == Running:
		return to == Initiated || runningOrder[from] < runningOrder[to]
	case to.State() == Pending:
		return resets[to]
	}
	return endsStarted[to]
}

var (
	// resets are the codes that a running job goes back to pending with.
	resets = map[Code]bool{WaitingOnReboot: true, WaitingDBMaintenance: true, WaitingOnNewTask: true}

	// endsUnstarted are the final codes of a pending job. An attempt that was
	// given up as lost may still win the commit while the next one waits, so a
	// pending job can also end as an attempt ends.
	endsUnstarted = map[Code]bool{
		DependencyFailed: true, CancelledByUser: true, KilledByAdmin: true, StaleCodelists: true, InternalError: true, JobError: true,
		Success: true, NonzeroExit: true, UnmatchedPatterns: true, OutOfMemory: true, TimedOut: true,
	}

	// endsStarted are the final codes of a running job.
	endsStarted = map[Code]bool{
		Success: true, NonzeroExit: true, UnmatchedPatterns: true, OutOfMemory: true, TimedOut: true,
		CancelledByUser: true, KilledByAdmin: true, InternalError: true, JobError: true,
	}
)
