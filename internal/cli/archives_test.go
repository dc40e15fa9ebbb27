package cli

import (
	"slices"
	"testing"
)

// TestArchives: archived workspaces are found where upstream left them, too.
func TestArchives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		flags storageFlags
		want  []string
	}{
		{storageFlags{High: "/srv/high"}, []string{"/srv/high/archives"}},
		{storageFlags{High: "/srv/high/workspaces"}, []string{"/srv/high/workspaces/archives", "/srv/high/archives"}},
		{storageFlags{High: "/srv/high/workspaces/"}, []string{"/srv/high/workspaces/archives", "/srv/high/archives"}},
		{storageFlags{High: "/srv/myworkspaces"}, []string{"/srv/myworkspaces/archives"}},
		{storageFlags{High: "/srv/high/workspaces", Archive: "/old"}, []string{"/old"}},
	} {
		if got := c.flags.archives(); !slices.Equal(got, c.want) {
			t.Errorf("%+v: got %q, want %q", c.flags, got, c.want)
		}
	}
}
