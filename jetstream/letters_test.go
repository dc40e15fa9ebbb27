package jetstream

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"
)

// FuzzDeadHeaders: whatever headers a message has, a dead letter of it can be
// written, has none that acts on the server, and gives the originals back.
func FuzzDeadHeaders(f *testing.F) {
	f.Add("Trace", "a", "Nats-Msg-Id", "1", "why")
	f.Add("Sluice-Reason", "x", "Sluice-Original-Nats-TTL", "1s", "two\r\nlines")
	f.Add("", "\r\n", "a b", "\xff", "\x00")
	f.Add("nats-rollup", strings.Repeat("v", 20<<10), "NATS-EXPECTED-STREAM", "", strings.Repeat("é", 3000))
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2, reason string) {
		original := map[string][]string{key1: {value1}, key2: {value2, value1}}
		checkKept(t, original)
		line := oneLine(reason, maxReason)
		if !utf8.ValidString(line) || strings.ContainsAny(line, "\r\n\x00") || len(line) > 3*maxReason+len("…") {
			t.Errorf("oneLine(%q) = %q", reason, line)
		}
	})
}

func TestDeadHeaders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.OneOf(rapid.StringMatching(`(Nats|nats|Sluice|Sluice-Original-Nats)-[A-Za-z-]{1,20}`), rapid.String())
		checkKept(t, rapid.MapOf(key, rapid.SliceOfN(rapid.String(), 1, 3)).Draw(t, "header"))
	})
}

func checkKept(t interface{ Errorf(string, ...any) }, original map[string][]string) {
	kept := keepHeader(original)
	size := 0
	for key, values := range kept {
		if !writable(key) {
			t.Errorf("header %q cannot be written", key)
		}
		if strings.HasPrefix(strings.ToLower(key), "nats-") {
			t.Errorf("header %q acts on the server", key)
		}
		for _, v := range values {
			size += len(key) + len(v)
		}
	}
	if size > maxHeader+len(droppedHeaders)+10 {
		t.Errorf("kept %d bytes of headers, the bound is %d", size, maxHeader)
	}
	got := giveHeader(kept)
	for key, values := range got {
		if len(values) > len(original[key]) {
			t.Errorf("header %q came from nowhere", key)
		}
	}
	if kept.Get(droppedHeaders) == "" {
		if diff := cmp.Diff(original, got); diff != "" {
			t.Errorf("headers (-original +kept):\n%s", diff)
		}
	}
	if len(kept) > 0 {
		if size := (&nats.Msg{Header: kept}).Size(); size == 0 {
			t.Errorf("nats.go does not write %v", kept)
		}
	}
}
