package disk

import (
	"bytes"
	"fmt"
	"testing"

	"sluice/persister"
)

// TestManifests: what is remembered counts for the very bytes that a file has,
// and is bounded.
func TestManifests(t *testing.T) {
	t.Parallel()
	var known manifests
	if known.get("ws", nil) != nil || known.get("ws", []byte("{}")) != nil {
		t.Error("a manifest is known that nobody has written")
	}
	m := persister.NewManifest("ws")
	known.put("ws", []byte("{}"), m)
	for text, want := range map[string]*persister.Manifest{"{}": m, "{} ": nil, "": nil} {
		if got := known.get("ws", []byte(text)); got != want {
			t.Errorf("the manifest %q is read as %v, want %v", text, got, want)
		}
	}
	if known.get("other", []byte("{}")) != nil {
		t.Error("a workspace has another's manifest")
	}
	large := bytes.Repeat([]byte(" "), maxKnown/4)
	for i := range 10 {
		known.put(fmt.Sprint(i), large, m)
		if known.get(fmt.Sprint(i), large) == nil {
			t.Errorf("manifest %d is not known", i)
		}
		size := 0
		for _, k := range known.known {
			size += len(k.text)
		}
		if size != known.size || size > maxKnown {
			t.Errorf("%d bytes are known, %d are counted, the bound is %d", size, known.size, maxKnown)
		}
	}
	if len(known.known) != 4 {
		t.Errorf("%d manifests of a quarter are known, want four", len(known.known))
	}
	tooLarge := make([]byte, maxKnown+1)
	if known.put("9", tooLarge, m); known.get("9", tooLarge) != nil || known.get("9", large) != nil || len(known.known) != 3 {
		t.Errorf("%d manifests are known after one became too large, want the three others", len(known.known))
	}
}
