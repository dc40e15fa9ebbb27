package staging

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"sluice/messages"
)

// A stamp tells whether a file is still the one that was laid out: all that
// changes when a file is written, replaced, or given back its old times.
type stamp struct {
	Size  int64  `json:"s"`
	Mtime int64  `json:"m"`
	Ctime int64  `json:"c"`
	Inode uint64 `json:"i"`
	Mode  uint32 `json:"p"`
}

func stampOf(st *unix.Stat_t) stamp {
	return stamp{Size: st.Size, Mtime: st.Mtim.Nano(), Ctime: st.Ctim.Nano(), Inode: st.Ino, Mode: st.Mode}
}

// stamps lists a tree before an attempt begins.
func stamps(ctx context.Context, dir string) (map[messages.Path]stamp, error) {
	root, err := openDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list the workspace: %w", err)
	}
	defer root.Close()
	list := map[messages.Path]stamp{}
	err = walk(ctx, root, func(path messages.Path, st *unix.Stat_t) error {
		if kindOf(st) != "" {
			list[path] = stampOf(st)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the workspace: %w", err)
	}
	return list, nil
}

type stampLine struct {
	Path messages.Path `json:"path"`
	stamp
}

// writeBefore keeps the listing for a worker that takes the attempt over.
func writeBefore(path string, list map[messages.Path]stamp) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keep the listing: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	buf := bufio.NewWriter(f)
	enc := json.NewEncoder(buf)
	for p, s := range list {
		if err := enc.Encode(stampLine{p, s}); err != nil {
			return fmt.Errorf("keep the listing: %w", err)
		}
	}
	return buf.Flush()
}

func readBefore(path string) (map[messages.Path]stamp, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list := map[messages.Path]stamp{}
	for dec := json.NewDecoder(bufio.NewReader(f)); dec.More(); {
		var line stampLine
		if err := dec.Decode(&line); err != nil {
			return nil, err
		}
		list[line.Path] = line.stamp
	}
	return list, nil
}

// sizes adds up what an attempt was given.
func sizes(list map[messages.Path]stamp) (bytes int64) {
	for _, s := range list {
		bytes += s.Size
	}
	return bytes
}
