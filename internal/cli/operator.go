package cli

// operatorCommands are those that look after a fleet that runs.
type operatorCommands struct {
	List        listCommand        `cmd:"" help:"List jobs, ended ones too, by state, code, action, request, worker or age."`
	Explain     explainCommand     `cmd:"" help:"Say why one job is where it is: what it waits for, who has it, what became of each attempt."`
	Retry       retryCommand       `cmd:"" help:"Ask again for what failed, of a request or of one job."`
	Kill        killCommand        `cmd:"" help:"End jobs as killed by an operator."`
	Bundle      bundleCommand      `cmd:"" help:"Pack all that the fleet knows of one job into a zip file, for support."`
	Pause       pauseCommand       `cmd:"" help:"Start nothing new on a backend; what runs goes on."`
	Resume      resumeCommand      `cmd:"" help:"End a pause, or what was prepared for a reboot."`
	Maintenance maintenanceCommand `cmd:"" help:"Switch database maintenance of a backend on or off: its database actions stop and wait."`
	Reboot      rebootCommand      `cmd:"" help:"Prepare a backend for a reboot of its machines: everything stops and waits."`
	Drain       drainCommand       `cmd:"" help:"Have workers take nothing new."`
	Flags       flagsCommand       `cmd:"" help:"Show and set what is set for a backend: switches, limits, weights, disclosure."`
}
