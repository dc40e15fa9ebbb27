package jetstream

import "testing"

func TestOlderThan(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		version string
		older   bool
	}{
		{"2.10.29", true}, {"1.99.99", true}, {"2.10.99-beta.1", true},
		{"2.11.0", false}, {"2.11.0-RC.3", false}, {"2.15.2", false}, {"3.0.0", false}, {"", false}, {"dev", false},
	} {
		if got := olderThan(tc.version, MinServer); got != tc.older {
			t.Errorf("olderThan(%q, %s) = %t, want %t", tc.version, MinServer, got, tc.older)
		}
	}
}
