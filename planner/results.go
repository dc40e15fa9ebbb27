package planner

import "sluice/messages"

// databaseExits are what exit codes of database actions mean
// (controller/config.py, DATABASE_EXIT_CODES).
var databaseExits = map[int]string{
	2:  "There was a problem with the command line arguments in your ehrQL action; please confirm that it runs locally",
	3:  "A transient database error occurred, your job may run if you try it again, if it keeps failing then contact tech support",
	4:  "New data is being imported into the database, please try again in a few hours",
	5:  "Something went wrong with the database, please contact tech support",
	6:  "Your ehrQL is valid but it produced SQL which is too complex for the database to run; please contact tech-support so we can help you simplify it.",
	10: "There was a problem reading your ehrQL code; please confirm that it runs locally",
	11: "There was a problem reading one of the supplied data files",
	12: "You do not have the required permissions for the ehrQL you are trying to run",
	13: "Assurance tests failed; please confirm the tests pass locally",
	14: "Your job was making such slow progress that it was unlikely to complete successfully; please contact tech support so we can help you to simplify it.",
}

// describe returns the sentence for people inside about how a job ended, as the
// reference has it (controller/main.py, save_results).
func describe(r *messages.Result, database bool) string {
	code := r.Code()
	text := code.Message()
	switch code {
	case messages.NonzeroExit:
		if exit := databaseExits[r.ExitCode]; database && exit != "" {
			text += ": " + exit
		}
	case messages.Success:
		if r.Withhelds > 0 || len(r.Withheld) > 0 {
			text += ", but some file(s) marked as moderately_sensitive were excluded. See job log for details."
		}
	}
	return text
}
