package persister

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// A decoder gives the characters of a text. Line ends of all three kinds
// become \n, as in Python's universal newlines.
type decoder struct {
	next16 func() (rune, error) // nil for UTF-8
	r      *bufio.Reader
	cr     bool // the last character was \r
}

// decode finds out how a text is encoded: by its byte order mark, else UTF-16
// if every other one of its first bytes is zero, else UTF-8.
func decode(r io.Reader) (*decoder, error) {
	d := &decoder{r: bufio.NewReaderSize(r, 64<<10)}
	start, err := d.r.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	skip := 0
	switch {
	case bytes.HasPrefix(start, []byte{0xff, 0xfe, 0, 0}), bytes.HasPrefix(start, []byte{0, 0, 0xfe, 0xff}):
		return nil, unreadable("it is in UTF-32")
	case bytes.HasPrefix(start, []byte{0xef, 0xbb, 0xbf}):
		skip = 3
	case bytes.HasPrefix(start, []byte{0xff, 0xfe}):
		skip, d.next16 = 2, d.utf16(binary.LittleEndian)
	case bytes.HasPrefix(start, []byte{0xfe, 0xff}):
		skip, d.next16 = 2, d.utf16(binary.BigEndian)
	case len(start) >= 2 && start[0] != 0 && start[1] == 0:
		d.next16 = d.utf16(binary.LittleEndian)
	case len(start) >= 2 && start[0] == 0 && start[1] != 0:
		d.next16 = d.utf16(binary.BigEndian)
	}
	_, err = d.r.Discard(skip)
	return d, err
}

func (d *decoder) next() (rune, error) {
	for {
		c, err := d.raw()
		switch {
		case err != nil:
			return 0, err
		case c == '\n' && d.cr:
			d.cr = false // of \r\n
		case c == '\r':
			d.cr = true
			return '\n', nil
		default:
			d.cr = false
			return c, nil
		}
	}
}

func (d *decoder) raw() (rune, error) {
	if d.next16 != nil {
		return d.next16()
	}
	c, size, err := d.r.ReadRune()
	if err == nil && c == utf8.RuneError && size == 1 {
		return 0, unreadable("it is not UTF-8 text")
	}
	return c, err
}

func (d *decoder) utf16(order binary.ByteOrder) func() (rune, error) {
	unit := func() (rune, error) {
		var b [2]byte
		_, err := io.ReadFull(d.r, b[:])
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, unreadable("it ends in the middle of a UTF-16 character")
		}
		return rune(order.Uint16(b[:])), err
	}
	return func() (rune, error) {
		high, err := unit()
		if err != nil || !utf16.IsSurrogate(high) {
			return high, err
		}
		low, err := unit()
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if c := utf16.DecodeRune(high, low); err == nil && c != utf8.RuneError {
			return c, nil
		}
		return 0, unreadable("it is not UTF-16 text")
	}
}
