package project

import (
	"bytes"
	"encoding/json"
	"slices"
)

// A Report is what `sluice check --json` prints: a project file as it is
// understood, or everything that is wrong with it.
type Report struct {
	Valid            bool          `json:"valid"`
	Errors           []Problem     `json:"errors"`
	Warnings         []string      `json:"warnings"`
	Version          *Version      `json:"version"` // null if it cannot be told
	Actions          ActionReports `json:"actions"` // an object, in the file's order
	AllActions       []string      `json:"all_actions"`
	Levels           [][]string    `json:"levels"`
	Order            []string      `json:"order"`
	JobCreationOrder []string      `json:"job_creation_order"`
	ActionImages     []string      `json:"action_images"` // sorted

	file   string
	source []byte
}

// An ActionReport is one action as the report prints it.
type ActionReport struct {
	Name          string          `json:"-"`
	Image         string          `json:"image"`
	Args          []string        `json:"args"`
	RunCommand    *string         `json:"run_command"` // null if config holds what JSON cannot
	Needs         []string        `json:"needs"`
	Outputs       levelReports    `json:"outputs"`
	IsDatabase    bool            `json:"is_database_action"`
	Config        json.RawMessage `json:"config,omitempty"`
	DummyDataFile string          `json:"dummy_data_file,omitempty"`
}

// ActionReports print as one object, name to action.
type ActionReports []ActionReport

// MarshalJSON keeps the file's order.
func (a ActionReports) MarshalJSON() ([]byte, error) {
	return marshalObject(len(a), func(i int) (string, any) { return a[i].Name, a[i] })
}

type levelReport struct {
	level   string
	outputs outputReports
}

type levelReports []levelReport

func (l levelReports) MarshalJSON() ([]byte, error) {
	return marshalObject(len(l), func(i int) (string, any) { return l[i].level, l[i].outputs })
}

type outputReports []Output

func (o outputReports) MarshalJSON() ([]byte, error) {
	return marshalObject(len(o), func(i int) (string, any) { return o[i].Name, o[i].Pattern })
}

// marshalObject writes an object whose keys stand in a given order.
func marshalObject(n int, entry func(int) (string, any)) ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	encode := json.NewEncoder(&out)
	encode.SetEscapeHTML(false)
	for i := range n {
		if i > 0 {
			out.WriteByte(',')
		}
		key, value := entry(i)
		if err := encode.Encode(key); err != nil {
			return nil, err
		}
		out.WriteByte(':')
		if err := encode.Encode(value); err != nil {
			return nil, err
		}
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// Check judges a project file. The file's name is only shown.
func Check(file string, data []byte) Report {
	p, c := parse(data)
	r := Report{
		Valid:            len(c.problems) == 0,
		Errors:           append([]Problem{}, c.problems...),
		Warnings:         append([]string{}, c.warnings...),
		Actions:          ActionReports{},
		AllActions:       p.AllActions(),
		Levels:           p.Levels(),
		Order:            p.Order(),
		JobCreationOrder: p.CreationOrder(),
		ActionImages:     p.Images(),
		file:             file,
		source:           data,
	}
	if !r.Valid {
		return r
	}
	r.Version = &p.Version
	for _, a := range p.Actions {
		r.Actions = append(r.Actions, a.report())
	}
	return r
}

func (a *Action) report() ActionReport {
	r := ActionReport{
		Name: a.Name, Image: a.Image, Args: append([]string{}, a.Args...), Needs: append([]string{}, a.Needs...),
		IsDatabase: a.IsDatabase, DummyDataFile: a.DummyDataFile,
	}
	if len(a.Config) > len("{}") {
		r.Config = a.Config
	}
	if line, err := a.RunCommand(); err == nil {
		r.RunCommand = &line
	}
	for _, level := range a.levels {
		of := levelReport{level: level}
		for _, output := range a.Outputs {
			if output.Level == level {
				of.outputs = append(of.outputs, output)
			}
		}
		r.Outputs = append(r.Outputs, of)
	}
	return r
}

// Images returns the images that the actions use, sorted, each once. A tag
// `latest` has always meant v1.
func (p *Project) Images() []string {
	images := []string{}
	for _, a := range p.Actions {
		tag := a.ImageVersion
		if tag == "latest" {
			tag = "v1"
		}
		images = append(images, a.ImageName+":"+tag)
	}
	slices.Sort(images)
	return slices.Compact(images)
}
