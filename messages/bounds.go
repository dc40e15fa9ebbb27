package messages

import (
	"strings"
	"time"
)

// Bounds of what a message may hold, in bytes and in entries. Every text, list,
// map and time has one: what one party writes another keeps or passes on, and
// must always have room for it there.
const (
	maxWord    = 500        // a name, or who asks and what for
	maxText    = MaxPayload // what a study wrote: the record that holds all of it bounds it further
	maxEntries = 100_000    // of a list that a study makes as long as it likes; likewise
	maxReasons = 100        // sentences about one request
	maxPools   = 1000
	maxSlots   = 1_000_000
)

// MaxReason bounds a sentence of one of our own programs, in bytes.
const MaxReason = 8 << 10

// Clip cuts a sentence to what a message may hold.
func Clip(reason string) string {
	if len(reason) <= MaxReason {
		return reason
	}
	const end = "…"
	return strings.ToValidUTF8(reason[:MaxReason-len(end)], "") + end
}

// text adds a problem if a field's text is too long.
func (p *Problems) text(name, s string, limit int) {
	if len(s) > limit {
		p.addf("%s is %d bytes long; the limit is %d", name, len(s), limit)
	}
}

// texts is text for a list, and count.
func (p *Problems) texts(name string, list []string, limit, each int) {
	if p.count(name, len(list), limit); len(list) > limit {
		return
	}
	for _, s := range list {
		if len(s) > each {
			p.text("an entry of "+name, s, each)
			return // one tells enough
		}
	}
}

// count adds a problem if a list or a map has too many entries.
func (p *Problems) count(name string, n, limit int) {
	if n > limit {
		p.addf("%s has %d entries; the limit is %d", name, n, limit)
	}
}

// Times that every reader and every program can write again: a year of four
// digits in any zone, and nanoseconds since 1970 in 64 bits.
var earliest, latest = time.Unix(0, 0).UTC(), time.Date(2261, 12, 31, 0, 0, 0, 0, time.UTC)

// when adds a problem if a time is out of bounds. None at all is no problem.
func (p *Problems) when(name string, at time.Time) {
	if !at.IsZero() && (at.Before(earliest) || at.After(latest)) {
		p.addf("%s is not a time between 1970 and 2261", name)
	}
}

// Listable reports whether a file's time is one that can be told in nanoseconds.
// It may be before 1970, other than the times that our own programs write.
func Listable(at time.Time) bool {
	year := at.UTC().Year()
	return year >= 1678 && year <= 2261
}
