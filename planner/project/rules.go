package project

// A Rule names what a Problem breaks. The spelling of a rule never changes.
type Rule string

// The rules, in the order in which they are checked.
const (
	RuleSize      Rule = "file-too-big"
	RuleEncoding  Rule = "not-text"
	RuleYAML      Rule = "not-yaml"
	RuleDocuments Rule = "several-documents"
	RuleDepth     Rule = "nested-too-deep"
	RuleExpansion Rule = "expands-too-far"
	RuleDuplicate Rule = "duplicate-key"
	RuleValue     Rule = "unreadable-value"

	RuleShape          Rule = "not-a-project"
	RuleUnknownKey     Rule = "unknown-key"
	RuleNoVersion      Rule = "no-version"
	RuleVersion        Rule = "bad-version"
	RuleFutureVersion  Rule = "future-version"
	RuleActionsType    Rule = "actions-type"
	RuleTooManyActions Rule = "too-many-actions"

	RuleReservedName  Rule = "reserved-name"
	RuleActionName    Rule = "action-name"
	RuleActionType    Rule = "action-type"
	RuleMissingKey    Rule = "missing-key"
	RuleKeyType       Rule = "key-type"
	RuleNoOutputs     Rule = "no-outputs"
	RuleOutputPattern Rule = "output-pattern"
	RuleOutputClimbs  Rule = "output-climbs-out"
	RuleEmptyRun      Rule = "empty-run"
	RuleRunWords      Rule = "run-words"
	RuleImageVersion  Rule = "image-version"
	RuleNeedsSpace    Rule = "needs-space"
	RuleNeedsType     Rule = "needs-type"
	RuleCohortOutputs Rule = "cohortextractor-outputs"
	RuleDatasetLevel  Rule = "dataset-level"
	RuleDatasetOutput Rule = "dataset-output"
	RuleConfig        Rule = "config-too-big"

	RuleCohortExtractor Rule = "cohortextractor"
	RuleLatest          Rule = "latest-image"
	RuleSameRun         Rule = "same-run"
	RuleOutputUnique    Rule = "output-not-unique"
	RuleUnknownNeed     Rule = "unknown-need"
	RuleExpectations    Rule = "expectations"
	RuleCycle           Rule = "cycle"
	RuleTooMany         Rule = "too-many-problems"
)

// Bounds on what a project file may ask of us. The largest real one known has
// 2,191 actions and 1 MB.
const (
	MaxBytes      = 4 << 20 // of the file
	MaxActions    = 20_000
	maxDepth      = 1_000     // of lists and dictionaries inside each other
	maxValues     = 1_000_000 // after aliases and merge keys are followed
	maxConfigJSON = 128 << 10 // bytes: Linux has that limit for one argument
	maxProblems   = 1_000
	maxKept       = 32 << 20 // bytes of all actions together
)

// Rules returns every rule, in the order in which they are checked.
func Rules() []Rule {
	return []Rule{
		RuleSize, RuleEncoding, RuleYAML, RuleDocuments, RuleDepth, RuleExpansion,
		RuleDuplicate, RuleValue, RuleShape, RuleUnknownKey, RuleNoVersion, RuleVersion,
		RuleFutureVersion, RuleActionsType, RuleTooManyActions, RuleReservedName, RuleActionName, RuleActionType,
		RuleMissingKey, RuleKeyType, RuleNoOutputs, RuleOutputPattern, RuleOutputClimbs, RuleEmptyRun,
		RuleRunWords, RuleImageVersion, RuleNeedsSpace, RuleNeedsType, RuleCohortOutputs, RuleDatasetLevel,
		RuleDatasetOutput, RuleConfig, RuleCohortExtractor, RuleLatest, RuleSameRun, RuleOutputUnique,
		RuleUnknownNeed, RuleExpectations, RuleCycle, RuleTooMany,
	}
}
