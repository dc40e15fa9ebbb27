package docker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/docker/docker/api/types/container"
)

// Logs writes the container's output with the time of each line, both streams
// in the order in which the engine got them.
func (b *box) Logs(ctx context.Context, w io.Writer) error {
	logs, err := b.r.cli.ContainerLogs(ctx, b.id, container.LogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: true})
	if err != nil {
		return fmt.Errorf("read the container's log: %w", err)
	}
	defer logs.Close()
	if err := demultiplex(w, logs); err != nil {
		return fmt.Errorf("read the container's log: %w", err)
	}
	return nil
}

// stampSize is the length of the engine's time stamps, the space behind them
// included; maxFrame bounds a frame, far above what the engine sends.
const (
	stampSize = len("2006-01-02T15:04:05.000000000Z ")
	maxFrame  = 1 << 20
)

// demultiplex takes the frames of a log apart: a byte that names the stream,
// three that are zero, four with the size, then that many bytes. The engine
// sends a long line in pieces, each with a time stamp: all but a line's first
// are left out.
func demultiplex(w io.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var head [8]byte
	var within [256]bool // whether a stream is within a line
	var frame []byte
	for {
		switch _, err := io.ReadFull(in, head[:]); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		size := int(binary.BigEndian.Uint32(head[4:]))
		if size > maxFrame {
			return fmt.Errorf("a frame of %d bytes: this is not a log", size)
		}
		frame = append(frame[:0], make([]byte, size)...)
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		text, stream := frame, head[0]
		if within[stream] && isStamp(text) {
			text = text[stampSize:]
		}
		if len(text) > 0 {
			within[stream] = text[len(text)-1] != '\n'
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
	}
}

// isStamp reports whether a piece begins as a time stamp does.
func isStamp(b []byte) bool {
	return len(b) >= stampSize && b[4] == '-' && b[10] == 'T' && b[19] == '.' && b[stampSize-2] == 'Z' && b[stampSize-1] == ' '
}
