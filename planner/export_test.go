package planner

// Describe and WeightOf let the conformance tests see what the service uses.
var Describe = describe

func WeightOf(cfg Config, backend, workspace, action, run string) float64 {
	w, err := newWeights(cfg.Weights)
	if err != nil {
		panic(err)
	}
	return w.of(backend, workspace, action, run)
}

// Changed is what `sluice run` compares an action with its last job by.
var (
	Changed = changed
	RulesOf = rulesOf
)
