package messages

// A Tier is a level of long-term storage, spelled as project files spell it.
type Tier string

// Tiers. MinimallySensitive is a word that older project files may use; its
// files are kept in the highly sensitive store only, as in the reference.
const (
	HighlySensitive     Tier = "highly_sensitive"
	ModeratelySensitive Tier = "moderately_sensitive"
	MinimallySensitive  Tier = "minimally_sensitive"
)

// Protection orders tiers: the higher, the more protected. Of two rules that
// match a file the more protected wins.
func (t Tier) Protection() int {
	switch t {
	case HighlySensitive:
		return 3
	case ModeratelySensitive:
		return 2
	case MinimallySensitive:
		return 1
	}
	return 0
}
