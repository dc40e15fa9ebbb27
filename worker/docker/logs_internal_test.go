package docker

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
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
			err := (&demultiplexer{w: &out}).read(bytes.NewReader(tc.in))
			if (err != nil) != tc.wantErr {
				t.Errorf("error = %v, want one: %t", err, tc.wantErr)
			}
			if out.String() != tc.want {
				t.Errorf("log = %q, want %q", out.String(), tc.want)
			}
		})
	}
}

// TestMarks: what is behind all that was written ends the log, and is not part
// of it, however the engine cuts it.
func TestMarks(t *testing.T) {
	t.Parallel()
	const mark = "sluice-end-of-log-0123\n"
	after := []byte("no more is read")
	join := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	for _, tc := range []struct {
		name string
		in   []byte
		want string
	}{
		{"nothing was written", join(frame(1, at+mark), frame(2, at+mark), after), ""},
		{"lines", join(frame(1, at+"out\n"), frame(2, at+"err\n"), frame(2, at+mark), frame(1, at+mark), after), at + "out\n" + at + "err\n"},
		{"a line without an end", join(frame(1, at+"out"+mark), frame(2, at+mark), after), at + "out"},
		{"one stream is slow", join(frame(2, at+mark), frame(1, at+"late\n"), frame(1, at+mark), after), at + "late\n"},
		{"cut in two", join(frame(1, at+"xx"+mark[:5]), frame(2, at+"err\n"), frame(1, at+mark[5:]), frame(2, at+mark), after), at + "xx" + at + "err\n"},
		{"only begun", join(frame(1, at+"xx"+mark[:5]), frame(1, at+"yy\n"), frame(1, at+"z"+mark[:3])), at + "xx" + mark[:5] + "yy\n" + at + "z" + mark[:3]},
		{"another's mark", join(frame(1, at+"sluice-end-of-log-4567\n"), frame(1, at+mark), frame(2, at+mark), after), at + "sluice-end-of-log-4567\n"},
		{"one mark alone", frame(1, at+"out\n"+mark), at + "out\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			end := &marks{mark: []byte(mark)}
			if err := (&demultiplexer{w: &out, end: end}).read(bytes.NewReader(tc.in)); err != nil {
				t.Fatal(err)
			}
			if err := end.flush(&out); err != nil {
				t.Fatal(err)
			}
			if out.String() != tc.want {
				t.Errorf("log = %q, want %q", out.String(), tc.want)
			}
		})
	}
}

// TestCutStream: an engine that ends the stream of a log too early, anywhere in
// it, costs no byte of it.
func TestCutStream(t *testing.T) {
	t.Parallel()
	const mark = "sluice-end-of-log-0123\n"
	lines := [][]byte{frame(1, at+"one\n"), frame(2, at+"two\n"), frame(1, at+"thr"), frame(1, at+"ee\n")}
	frames := slices.Concat(lines, [][]byte{frame(1, at+"four")})
	marked := slices.Concat(lines, [][]byte{frame(1, at+"four"+mark[:5]), frame(1, at+mark[5:]), frame(2, at+mark)})
	const want = at + "one\n" + at + "two\n" + at + "three\n" + at + "four"
	for _, tc := range []struct {
		name   string
		frames [][]byte
		taken  *taken
	}{
		{name: "made for its attempt", frames: frames},
		{name: "started in advance", frames: marked, taken: &taken{Mark: mark}},
		{name: "started in advance, and nobody wrote the marks", frames: frames, taken: &taken{Mark: mark}},
		{name: "nothing was written"},
	} {
		for sent := range len(tc.frames) + 1 {
			t.Run(fmt.Sprintf("%s, %d frames sent", tc.name, sent), func(t *testing.T) {
				t.Parallel()
				engine := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					switch {
					case strings.HasSuffix(r.URL.Path, "/wait"):
						_, _ = io.WriteString(w, `{"StatusCode":0}`)
					case strings.HasSuffix(r.URL.Path, "/_ping"):
						w.Header().Set("Api-Version", "1.41")
					case r.FormValue("follow") == "1":
						_, _ = w.Write(bytes.Join(tc.frames[:sent], nil))
					case r.FormValue("tail") == "1":
						_, _ = w.Write(bytes.Join(tc.frames[max(0, len(tc.frames)-1):], nil))
					default:
						_, _ = w.Write(bytes.Join(tc.frames, nil))
					}
				}))
				defer engine.Close()
				r, err := New(Config{Host: "tcp://" + engine.Listener.Addr().String()})
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				var out strings.Builder
				if err := (&box{r: r, id: "abc", taken: tc.taken}).Logs(t.Context(), &out); err != nil {
					t.Fatal(err)
				}
				if want := want[:len(want)*min(1, len(tc.frames))]; out.String() != want {
					t.Errorf("log = %q, want %q", out.String(), want)
				}
			})
		}
	}
}

func FuzzDemultiplex(f *testing.F) {
	f.Add(frame(1, at+"x\n"))
	f.Add(append(frame(1, "x"), frame(2, at)...))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out bytes.Buffer
		_ = (&demultiplexer{w: &out}).read(bytes.NewReader(in))
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
