package messages

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// Milestones are what SHA-256 had come to after each MilestoneEvery bytes of a
// large file. One file cannot be hashed in two places at once, but with them its
// digest can be verified in several: what lies between two milestones, hashed from
// the first, must come to the second; the first part is hashed from nothing, and
// the last must come to the digest.
//
// They are a hint from whoever listed the file. False ones cannot make another
// file's digest right; where they do not hold, the file is hashed whole, so that
// no verdict depends on them.
type Milestones struct {
	Path   Path   `json:"path"`
	States []byte `json:"states"` // 32 bytes each: the hash value H of FIPS 180-4, big-endian
}

// MilestoneEvery is how many bytes are between two milestones.
const MilestoneEvery = 8 << 20

// MilestonesFile is where a worker leaves them, beside an attempt's files: one
// JSON object a line. It is left out where no file is large.
const MilestonesFile = "milestones.jsonl"

// maxMilestones bounds the milestones of an attempt, in encoded bytes: those of
// some 380 GiB.
const maxMilestones = 2 << 20

// A Sum is SHA-256 of a file of known size, and its milestones.
type Sum struct {
	hash   hash.Hash
	left   int64 // bytes up to the next milestone
	count  int64 // of milestones to come
	states []byte
}

// NewSum begins a sum of a file of so many bytes.
func NewSum(size int64) *Sum {
	return &Sum{hash: sha256.New(), left: MilestoneEvery, count: milestones(size)}
}

// milestones is how many a file has: none where it begins or ends.
func milestones(size int64) int64 { return max(size-1, 0) / MilestoneEvery }

// Write adds to the sum. It never fails.
func (s *Sum) Write(p []byte) (int, error) {
	n := len(p)
	for s.count > 0 && int64(len(p)) >= s.left {
		s.hash.Write(p[:s.left])
		p = p[s.left:]
		s.states = append(s.states, stateOf(s.hash)...)
		s.left, s.count = MilestoneEvery, s.count-1
	}
	s.hash.Write(p)
	s.left -= int64(len(p))
	return n, nil
}

// Digest returns the digest of what was written.
func (s *Sum) Digest() string { return FormatDigest(s.hash.Sum(nil)) }

// Milestones returns those that were passed, or nil if there are none.
func (s *Sum) Milestones(path Path) *Milestones {
	if len(s.states) == 0 {
		return nil
	}
	return &Milestones{Path: path, States: s.states}
}

// Fit reports whether the milestones can be those of a file of so many bytes. Those
// of a file that is too small to have any do not fit.
func (m *Milestones) Fit(size int64) bool {
	n := milestones(size)
	return n > 0 && len(m.States)%sha256.Size == 0 && int64(len(m.States)/sha256.Size) == n
}

// At returns SHA-256 as it would be at a place of a file that the milestones fit:
// its beginning, or a milestone's.
func (m *Milestones) At(at int64) (hash.Hash, error) {
	sum := sha256.New()
	if at == 0 {
		return sum, nil
	}
	data := append([]byte(stateMagic), m.state(at)...)
	data = append(data, make([]byte, sha256.BlockSize)...) // nothing waits for the rest of its block
	data = binary.BigEndian.AppendUint64(data, uint64(at))
	into, ok := sum.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sum, into.UnmarshalBinary(data)
}

// Holds reports whether SHA-256 has come to the milestone at a place of the file.
// They must fit it.
func (m *Milestones) Holds(at int64, sum hash.Hash) bool {
	state := stateOf(sum)
	return state != nil && bytes.Equal(state, m.state(at))
}

func (m *Milestones) state(at int64) []byte {
	n := at/MilestoneEvery - 1
	return m.States[n*sha256.Size : (n+1)*sha256.Size]
}

// stateMagic is how Go's crypto/sha256 begins what it marshals; the hash value
// comes next, then a block that is not full yet, and the length.
const stateMagic = "sha\x03"

// stateOf returns the hash value at the end of a block, or nil if this Go
// marshals otherwise.
func stateOf(sum hash.Hash) []byte {
	from, ok := sum.(encoding.BinaryMarshaler)
	if !ok {
		return nil
	}
	data, err := from.MarshalBinary()
	if err != nil || len(data) != len(stateMagic)+sha256.Size+sha256.BlockSize+8 || string(data[:len(stateMagic)]) != stateMagic {
		return nil
	}
	return data[len(stateMagic):][:sha256.Size]
}

// EncodeMilestones encodes milestones, those of the largest files first, as many
// as there is room for.
func EncodeMilestones(all []*Milestones) ([]byte, error) {
	all = slices.SortedStableFunc(slices.Values(all), func(a, b *Milestones) int { return cmp.Compare(len(b.States), len(a.States)) })
	var out []byte
	for _, m := range all {
		line, err := json.Marshal(m)
		if err != nil {
			return nil, fmt.Errorf("encode milestones: %w", err)
		}
		if len(out)+len(line) < maxMilestones {
			out = append(append(out, line...), '\n')
		}
	}
	return out, nil
}

// ReadMilestones reads what EncodeMilestones made, by path. What cannot be read is
// left out: it is of no consequence.
func ReadMilestones(r io.Reader) map[Path]*Milestones {
	all := map[Path]*Milestones{}
	lines := bufio.NewScanner(io.LimitReader(r, maxMilestones))
	lines.Buffer(nil, maxMilestones)
	for lines.Scan() {
		m := new(Milestones)
		if json.Unmarshal(lines.Bytes(), m) == nil {
			all[m.Path] = m
		}
	}
	return all
}
