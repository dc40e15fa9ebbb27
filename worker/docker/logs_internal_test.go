package docker

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
)

func frame(stream byte, text string) []byte {
	head := []byte{stream, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[4:], uint32(len(text)))
	return append(head, text...)
}

const at = "2026-11-21T08:00:00.000000000Z "

func TestDemultiplex(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		in      []byte
		want    string
		wantErr bool
	}{
		{name: "nothing"},
		{name: "two streams", in: append(frame(1, at+"out\n"), frame(2, at+"err\n")...), want: at + "out\n" + at + "err\n"},
		{name: "a line in pieces", in: bytes.Join([][]byte{frame(1, at+"xxx"), frame(1, at+"yyy"), frame(1, at+"z\n"), frame(1, at+"next\n")}, nil), want: at + "xxxyyyz\n" + at + "next\n"},
		{name: "the other stream between", in: bytes.Join([][]byte{frame(1, at+"xxx"), frame(2, at+"err\n"), frame(1, at+"z\n")}, nil), want: at + "xxx" + at + "err\nz\n"},
		{name: "a piece that has no stamp", in: append(frame(1, at+"xxx"), frame(1, "yyy\n")...), want: at + "xxxyyy\n"},
		{name: "an empty frame", in: append(frame(1, ""), frame(1, at+"x\n")...), want: at + "x\n"},
		{name: "cut within a head", in: frame(1, "abc")[:5], wantErr: true},
		{name: "cut within a frame", in: frame(1, "abc")[:9], wantErr: true},
		{name: "not a log", in: []byte("\x01\x00\x00\x00\xff\xff\xff\xff"), wantErr: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			err := demultiplex(&out, bytes.NewReader(tc.in))
			if (err != nil) != tc.wantErr {
				t.Errorf("error = %v, want one: %t", err, tc.wantErr)
			}
			if out.String() != tc.want {
				t.Errorf("log = %q, want %q", out.String(), tc.want)
			}
		})
	}
}

func FuzzDemultiplex(f *testing.F) {
	f.Add(frame(1, at+"x\n"))
	f.Add(append(frame(1, "x"), frame(2, at)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		_ = demultiplex(&out, bytes.NewReader(in))
		if out.Len() > len(in) {
			t.Errorf("%d bytes became %d", len(in), out.Len())
		}
	})
}

func FuzzProgress(f *testing.F) {
	f.Add([]byte(`{"status":"Pulling","id":"a"}{"error":"manifest unknown"}`))
	f.Fuzz(func(_ *testing.T, in []byte) {
		_ = readProgress(bytes.NewReader(in), func(string) {})
	})
}
