package persister

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/messages"
)

// TestExitTexts: how an attempt ended, in the words of the reference's agent.
func TestExitTexts(t *testing.T) {
	t.Parallel()
	own := messages.Job{Limits: messages.Limits{Memory: 3 << 30}}
	record := func(memory string) json.RawMessage {
		return json.RawMessage(`{"HostConfig": {"Memory": ` + memory + `}}`)
	}
	oom := messages.Files{ExitCode: 137, OOMKilled: true}
	ended := &messages.Result{}
	for want, a := range map[string]account{
		"Completed successfully":                          {result: ended},
		"Job exited with an error":                        {result: ended, files: &messages.Files{ExitCode: 1}},
		"Job killed by OpenSAFELY admin or memory limits": {result: ended, files: &messages.Files{ExitCode: 137}},
		"Job cancelled by system":                         {files: &messages.Files{ExitCode: 137, Cancelled: true}},
		"Job errored":                                     {files: &messages.Files{ExitCode: 1}},
		"Job ran out of memory (limit was 3.00GB)":        {result: ended, files: &oom, job: &own, container: record("1073741824")},
		"Job ran out of memory (limit was 4.25GB)":        {result: ended, files: &oom, container: record("4563402752")}, // the worker's own limit
		"Job ran out of memory":                           {result: ended, files: &oom},
		"Job ran out of memory ":                          {result: ended, files: &oom, container: record("0")},
		"Job ran out of memory  ":                         {result: ended, files: &oom, container: record(`"much"`)},
		"Job ran out of memory   ":                        {result: ended, files: &oom, container: json.RawMessage(`[]`)},
	} {
		if a.job == nil {
			a.job = &messages.Job{}
		}
		if a.files == nil {
			a.files = &messages.Files{}
		}
		if got := a.statusMessage(); got != strings.TrimSpace(want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestExpectedImage: what a job was to run is told to the digest, if it was fixed.
func TestExpectedImage(t *testing.T) {
	t.Parallel()
	digest := messages.Digest([]byte("image"))
	for want, job := range map[string]messages.Job{
		"r:v2":           {Image: "r:v2"},
		"r:v2@" + digest: {Image: "r:v2", Digest: digest},
	} {
		data, err := (&account{job: &job, files: &messages.Files{}}).metadata()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Image string `json:"expected_image_id"`
		}
		if err := json.Unmarshal(data, &got); err != nil || got.Image != want {
			t.Errorf("expected_image_id = %q, %v, want %q", got.Image, err, want)
		}
	}
}
