package messages_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/messages"
)

// TestEveryFieldIsBounded: in no message and no register is there a text, a
// list, a map or a time that may be as large as its writer likes: what one party
// writes must fit what the next writes from it.
func TestEveryFieldIsBounded(t *testing.T) {
	t.Parallel()
	for name := range samples() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fields := 0
			for i := 0; ; i++ {
				m := full(name)
				if err := m.Validate(); err != nil {
					t.Fatalf("the full sample: %v", err)
				}
				at := i
				what := inflate(reflect.ValueOf(m).Elem(), name, &at)
				if what == "" {
					break
				}
				fields++
				if err := m.Validate(); err == nil {
					t.Errorf("%s has no bound", what)
				}
			}
			if fields < 2 {
				t.Errorf("%d fields were looked at", fields)
			}
		})
	}
}

// full is a sample in which what may be left out is there.
func full(name string) messages.Message {
	m := samples()[name]
	metrics := &messages.Metrics{Container: "c"}
	switch m := m.(type) {
	case *messages.Request:
		m.AnalysisScope.PopulationPermissions, m.AnalysisScope.ComponentAccess = []string{"p"}, []string{"c"}
	case *messages.Job:
		reuses := source
		m.Reuses = &reuses
		m.Result.Reason, m.Result.Metrics = "r", metrics
		m.Result.Refused, m.Result.Raised = m.Result.Withheld, m.Result.Leftover
	case *messages.Commit:
		m.Result.Reason, m.Result.Metrics = "r", metrics
		m.Result.Refused, m.Result.Raised = m.Result.Withheld, m.Result.Leftover
	case *messages.Plan:
		m.Reasons, m.Warnings, m.Jobs[0].Wait = []string{"r"}, []string{"w"}, []messages.JobID{job}
		m.Cancel = &messages.Cancel{Request: m.Request.ID, Backend: "tpp", Workspace: "asthma", Actions: []string{"summarise"}, By: "ada"}
	case *messages.Action:
		m.Env, m.Patterns = []messages.EnvVar{{Name: "A", Value: "b"}}, []string{"*"}
	case *messages.Files:
		m.Given, m.Metrics = []messages.Path{"a"}, metrics
	case *messages.Outcome:
		asked := source
		m.Source = &asked
		m.Reasons, m.Jobs = []string{"r"}, []messages.JobOutcome{*m.Job}
		m.Job.Disclosed = &messages.Disclosed{Unmatched: []string{"p"}, Leftover: []messages.Path{"a"}, Withheld: []messages.FileProblem{{Path: "a", Reason: "r"}}, Metrics: metrics}
	case *messages.Setting:
		m.Reboot = &messages.Switch{By: "ops", Since: at}
	}
	return m
}

// inflate makes the field number *at too large, counting texts, lists, maps and
// times in depth, and returns its name; empty if there is none.
func inflate(v reflect.Value, name string, at *int) string {
	mine := func() bool { *at--; return *at == -1 }
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		if mine() {
			v.Set(reflect.ValueOf(time.Date(9999, 12, 31, 23, 0, 0, 0, time.FixedZone("", -23*3600))))
			return name
		}
	case v.Kind() == reflect.Pointer && !v.IsNil():
		return inflate(v.Elem(), name, at)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if field.Tag.Get("json") == "-" {
				continue
			}
			if found := inflate(v.Field(i), name+"."+field.Name, at); found != "" {
				return found
			}
		}
	case v.Kind() == reflect.String:
		if mine() {
			v.SetString(strings.Repeat("a", messages.MaxPayload+1))
			return name
		}
	case v.Kind() == reflect.Slice && v.Len() > 0:
		if mine() {
			many := reflect.MakeSlice(v.Type(), 100_001, 100_001)
			many.Index(0).Set(v.Index(0))
			for n := 1; n < many.Len(); n *= 2 {
				reflect.Copy(many.Slice(n, many.Len()), many.Slice(0, n))
			}
			v.Set(many)
			return name + "[]"
		}
		return inflate(v.Index(0), name+"[0]", at)
	case v.Kind() == reflect.Map && v.Len() > 0:
		if mine() {
			for i := range 2000 {
				v.SetMapIndex(reflect.ValueOf("p"+strings.Repeat("a", i%90)+string(rune('a'+i/90))), v.MapIndex(v.MapKeys()[0]))
			}
			return name + "{}"
		}
	}
	return ""
}
