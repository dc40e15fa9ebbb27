package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// readProgress reads the engine's progress of a pull to its end: the pull goes
// on only as it is read, and fails in the stream, not in the call.
func readProgress(r io.Reader, say func(line string)) error {
	last := ""
	for dec := json.NewDecoder(io.LimitReader(r, 64<<20)); ; {
		var line struct {
			Status string `json:"status"`
			ID     string `json:"id"`
			Error  string `json:"error"`
		}
		err := dec.Decode(&line)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's progress: %w", err)
		case line.Error != "":
			return errors.New(line.Error)
		}
		if text := line.ID + " " + line.Status; text != last {
			last = text
			say(text)
		}
	}
}
