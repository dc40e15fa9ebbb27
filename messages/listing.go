package messages

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// EncodeListing writes a listing's encoding: one File as JSON a line, sorted by
// path. A listing's digest is that of these bytes, whether they lie in staging
// or are made again from a message.
func EncodeListing(w io.Writer, files []File) error {
	slices.SortFunc(files, func(a, b File) int { return strings.Compare(string(a.Path), string(b.Path)) })
	buf := bufio.NewWriter(w)
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	for i := range files {
		if err := enc.Encode(&files[i]); err != nil {
			return fmt.Errorf("encode listing: %w", err)
		}
	}
	return buf.Flush()
}

// NewListing describes files. Small listings are inline; for others Stored is
// set and encoded holds what belongs into staging.
func NewListing(files []File) (l Listing, encoded []byte, err error) {
	if len(files) > MaxListed {
		return l, nil, fmt.Errorf("%d new files; the limit is %d", len(files), MaxListed)
	}
	var buf bytes.Buffer
	if err := EncodeListing(&buf, files); err != nil {
		return l, nil, err
	}
	l = Listing{Count: len(files), Digest: Digest(buf.Bytes())}
	for i := range files {
		l.Bytes += files[i].Size
	}
	if buf.Len() > MaxInlineListing {
		l.Stored = true
		return l, buf.Bytes(), nil
	}
	l.Files = files
	return l, nil, nil
}

// maxListingLine bounds a line of a listing: a path of MaxPath bytes, escaped,
// and the rest.
const maxListingLine = 8*MaxPath + 1024

// Read returns the files of a listing. Stored ones come from r, whose bytes
// must have the listing's digest; an inline one does not use r. The error is
// the sender's fault unless r failed.
func (l *Listing) Read(r io.Reader) ([]File, error) {
	if !l.Stored {
		var buf bytes.Buffer
		files := slices.Clone(l.Files)
		if err := EncodeListing(&buf, files); err != nil {
			return nil, err
		}
		if got := Digest(buf.Bytes()); got != l.Digest {
			return nil, fmt.Errorf("the listing's digest is %s, the message says %s", got, Quote(l.Digest))
		}
		return files, l.check(files)
	}
	sum := sha256.New()
	lines := bufio.NewScanner(io.TeeReader(r, sum))
	lines.Buffer(make([]byte, 64<<10), maxListingLine)
	var files []File
	for lines.Scan() {
		if len(files) >= MaxListed {
			return nil, fmt.Errorf("the listing has more than %d files", MaxListed)
		}
		var f File
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return nil, fmt.Errorf("line %d of the listing: %w", len(files)+1, err)
		}
		if err := f.Check(); err != nil {
			return nil, fmt.Errorf("line %d of the listing: %w", len(files)+1, err)
		}
		files = append(files, f)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read listing: %w", err)
	}
	if got := FormatDigest(sum.Sum(nil)); got != l.Digest {
		return nil, fmt.Errorf("the listing's digest is %s, the message says %s", got, Quote(l.Digest))
	}
	return files, l.check(files)
}

// check reports a listing whose files are not as many as it says, or not in
// order: a path that comes twice could be matched by one rule and copied by
// another.
func (l *Listing) check(files []File) error {
	if len(files) != l.Count {
		return fmt.Errorf("the listing has %d files, the message says %d", len(files), l.Count)
	}
	for i := 1; i < len(files); i++ {
		if files[i-1].Path >= files[i].Path {
			return fmt.Errorf("the listing is not sorted, or has %s twice", files[i].Path)
		}
	}
	return nil
}
