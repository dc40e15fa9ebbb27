package bench

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSample(t *testing.T) {
	t.Parallel()
	var hundred []float64
	for i := range 100 {
		hundred = append(hundred, float64(i+1))
	}
	for _, tc := range []struct {
		name  string
		given []float64
		more  bool
		want  Sample
	}{
		{"none", nil, false, Sample{}},
		{"one", []float64{7}, false, Sample{7, 7, 1}},
		{"odd", []float64{3, 1, 2}, false, Sample{2, 3, 3}},
		{"even: the middle of the two", []float64{4, 1, 2, 3}, false, Sample{2.5, 4, 4}},
		{"times: the worst is the longest", hundred, false, Sample{50.5, 96, 100}},
		{"rates: the worst is the lowest", hundred, true, Sample{50.5, 5, 100}},
	} {
		if diff := cmp.Diff(tc.want, sample(tc.given, tc.more)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if got := times([]time.Duration{1500 * time.Microsecond}); got.P50 != 1.5 {
		t.Errorf("1.5 ms is %v", got.P50)
	}
}

func TestStolen(t *testing.T) {
	t.Parallel()
	before := []float64{10, 0, 10, 100, 0, 0, 0, 5, 3, 0}
	for _, tc := range []struct {
		name          string
		before, after []float64
		want          float64
	}{
		{"a quarter", before, []float64{40, 0, 20, 120, 0, 0, 0, 25, 9, 0}, 25},
		{"none", before, []float64{40, 0, 20, 120, 0, 0, 0, 5, 9, 0}, 0},
		{"no time", before, before, 0},
		{"not told", nil, before, 0},
	} {
		if got := stolen(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: %v %%, want %v", tc.name, got, tc.want)
		}
	}
	if got := ticks(); len(got) < 8 || got[3] == 0 {
		t.Errorf("the processors' time is %v", got)
	}
	if lines := (Machine{Stolen: 21.6}).lines(); !strings.Contains(lines[len(lines)-1], "22 %") {
		t.Errorf("a host that took much is not spoken of: %q", lines)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	b := &Bench{current: "w1"}
	b.add("a thing", "ms", Sample{50, 60, 20}, "bare", Sample{100, 120, 20}, "<= 0.25")
	b.add("another", "MiB", Sample{12.34, 12.34, 1}, "", Sample{}, "")
	var text bytes.Buffer
	if err := b.report.Print(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"50.0 / 60.0", "100 / 120", "0.50", "<= 0.25", "12.3"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	data, err := json.Marshal(b.report.Rows)
	want := `[{"workload":"w1","what":"a thing","unit":"ms","ours":{"p50":50,"p95":60,"count":20},"against":"bare","baseline":{"p50":100,"p95":120,"count":20},"ratio":0.5,"aim":"\u003c= 0.25"},` +
		`{"workload":"w1","what":"another","unit":"MiB","ours":{"p50":12.34,"p95":12.34,"count":1}}]`
	if diff := cmp.Diff(want, string(data)); diff != "" || err != nil {
		t.Errorf("JSON (-want +got): %v\n%s", err, diff)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	if _, err := choose([]string{"w1", "w99"}); err == nil || !strings.Contains(err.Error(), "w1, w2") {
		t.Errorf("an unknown workload: %v", err)
	}
	one, err := choose([]string{"w2"})
	if err != nil || len(one) != 1 || one[0].Name != "w2" {
		t.Errorf("w2 = %v, %v", one, err)
	}
	short, err := choose(nil)
	if err != nil || len(short) == 0 {
		t.Errorf("none named = %v, %v", short, err)
	}
	for _, w := range short {
		if w.Extra {
			t.Errorf("%s is long, and measured without being named", w.Name)
		}
	}
}

// TestStatic: a program that needs a loader, or is none, makes no image.
func TestStatic(t *testing.T) {
	t.Parallel()
	text := filepath.Join(t.TempDir(), "busybox")
	if err := os.WriteFile(text, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{text, "/bin/bash", "/nosuch"} {
		if static(path) {
			t.Errorf("%s is called static", path)
		}
	}
}

func TestBusyboxRoot(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "busybox")
	if err := os.WriteFile(path, []byte("program"), 0o755); err != nil {
		t.Fatal(err)
	}
	data, err := busyboxRoot(path)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		found[h.Name] = h.Linkname
	}
	for name, link := range map[string]string{"bin/busybox": "", "bin/sh": "busybox", "workspace/": "", "etc/": ""} {
		if got, ok := found[name]; !ok || got != link {
			t.Errorf("%s is %q, %v", name, got, ok)
		}
	}
}
