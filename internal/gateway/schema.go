package gateway

import (
	"strings"

	"sluice/messages"
)

// parseCreate reads the body of a request for jobs, by the reference's schema. A
// fault is one of the schema; what only the planner can tell it does.
func parseCreate(data []byte) (req messages.Request, fault string) {
	b := parseBody(data, "backend", "rap_id", "workspace", "repo_url", "branch", "commit", "database_name", "requested_actions", "codelists_ok",
		"force_run_dependencies", "created_by", "project", "orgs")
	if b.fault != "" {
		return req, b.fault
	}
	codelists := false
	req = messages.Request{
		Backend:   b.text("backend"),
		ID:        messages.RequestID(b.matching("rap_id", "^[a-z0-9]{16}$", func(s string) bool { return len(s) == 16 && only(s, lower+digits) })),
		Workspace: b.matching("workspace", "[a-zA-Z0-9_-]+", func(s string) bool { return strings.ContainsAny(s, lower+upper+digits+"_-") }),
		Source: messages.Source{
			Repo:   b.text("repo_url"),
			Branch: b.text("branch"),
			Commit: b.matching("commit", "^[0-9a-f]{40}$", func(s string) bool { return len(s) == 40 && only(s, digits+"abcdef") }),
		},
		Database:    b.oneOf("database_name", "default"),
		Actions:     b.texts("requested_actions", 1),
		CodelistsOK: &codelists,
	}
	codelists = b.truth("codelists_ok")
	req.ForceRunDependencies = b.truth("force_run_dependencies")
	req.CreatedBy, req.Project = b.text("created_by"), b.text("project")
	req.Orgs = b.texts("orgs", 0)
	if scope := b.object("analysis_scope"); scope != nil && b.fault == "" {
		req.AnalysisScope = &messages.AnalysisScope{
			DatasetPermissions:    scope.optional("dataset_permissions", datasetPermissions),
			PopulationPermissions: scope.optional("population_permissions", populationPermissions),
			ComponentAccess:       scope.optional("component_access", componentAccess),
		}
		b.fault = strings.Replace(scope.fault, "$.", "$.analysis_scope.", 1)
	}
	return req, b.fault
}

// optional returns a list that need not be there.
func (b *body) optional(field string, allowed []string) []string {
	if _, there := b.fields[field]; !there {
		return nil
	}
	return b.texts(field, 0, allowed...)
}

const (
	lower  = "abcdefghijklmnopqrstuvwxyz"
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits = "0123456789"
)

func only(s, set string) bool { return strings.Trim(s, set) == "" }
