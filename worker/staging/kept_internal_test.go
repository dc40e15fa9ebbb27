package staging

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestKeepingIsBounded: what was used longest ago goes first, and all that free
// space asks for.
func TestKeepingIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	k, err := openKeeping(filepath.Join(dir, "kept"), 400)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	of := func(i int) origin { return origin{digest: fmt.Sprint(i)} }
	began := time.Now().Add(-time.Hour)
	for i := range 6 {
		k.keep(of(i), file, 100)
		if f := k.files[of(i)]; f != nil {
			f.used = began.Add(time.Duration(i) * time.Second)
		}
		if i == 3 { // the first is asked for again
			if !k.lay(of(0), filepath.Join(dir, "laid")) {
				t.Fatal("a file that is kept was not laid")
			}
			k.files[of(0)].used = began.Add(time.Minute)
		}
	}
	k.keep(of(7), file, 101)
	check := func(what string, want ...int) {
		t.Helper()
		left, err := os.ReadDir(k.dir)
		if err != nil || len(left) != len(want) || len(k.files) != len(want) || k.bytes != int64(100*len(want)) {
			t.Errorf("%s: %d files, %d known, %d bytes, %v, want %v", what, len(left), len(k.files), k.bytes, err, want)
		}
		for _, i := range want {
			if k.files[of(i)] == nil {
				t.Errorf("%s: %d is not kept", what, i)
			}
		}
	}
	check("full", 0, 3, 4, 5)
	if k.makeRoom(1000) {
		t.Error("room was made where there was enough")
	}
	if !k.makeRoom(250) {
		t.Error("no room was made")
	}
	check("little room", 0, 5)
	if k.lay(origin{digest: of(0).digest, dev: 1}, filepath.Join(dir, "other")) {
		t.Error("a file was laid for another one of the tier")
	}
	if k.makeRoom(-1); len(k.files) != 0 {
		t.Error("something is kept on a full disk")
	}
}
