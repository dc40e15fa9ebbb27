package disk

import (
	"bytes"
	"fmt"
	"testing"

	"sluice/persister"
)

// TestManifests: what is remembered counts for the very bytes that a file has,
// belongs to one at a time, and is bounded.
func TestManifests(t *testing.T) {
	t.Parallel()
	var known manifests
	if known.take("ws", nil) != nil || known.take("ws", []byte("{}")) != nil {
		t.Error("a manifest is known that nobody has written")
	}
	m := persister.NewManifest("ws")
	for text, want := range map[string]*persister.Manifest{"{}": m, "{} ": nil, "": nil} {
		known.put("ws", []byte("{}"), m)
		if known.take("other", []byte(text)) != nil {
			t.Error("a workspace has another's manifest")
		}
		if got := known.take("ws", []byte(text)); got != want {
			t.Errorf("the manifest %q is read as %v, want %v", text, got, want)
		}
		if known.take("ws", []byte("{}")) != nil || known.size != 0 {
			t.Errorf("two have the same manifest, %q", text)
		}
	}
	large := bytes.Repeat([]byte(" "), maxKnown/4)
	for i := range 10 {
		known.put(fmt.Sprint(i), large, m)
		if _, there := known.known[fmt.Sprint(i)]; !there {
			t.Errorf("manifest %d is not known", i)
		}
		size := 0
		for _, k := range known.known {
			size += cap(k.text)
		}
		if size != known.size || size > maxKnown {
			t.Errorf("%d bytes are known, %d are counted, the bound is %d", size, known.size, maxKnown)
		}
	}
	if len(known.known) != 4 {
		t.Errorf("%d manifests of a quarter are known, want four", len(known.known))
	}
	tooLarge := make([]byte, 1, maxKnown+1)
	if known.put("9", tooLarge, m); len(known.known) != 3 || known.take("9", tooLarge) != nil {
		t.Errorf("%d manifests are known after one became too large, want the three others", len(known.known))
	}
}
