package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/rs/zerolog"

	"sluice/persister/disk"
)

// groupID finds a group by its name or number; -1 stands for none.
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	if n, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(n), nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, fmt.Errorf("group %s: %w", strconv.Quote(name), err)
	}
	return strconv.Atoi(g.Gid)
}

// A fileMode is the mode of files in the tiers.
type fileMode fs.FileMode

// UnmarshalText reads an octal mode. The owner must be able to read and write,
// and nobody else to write: there is one writer.
func (m *fileMode) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(strings.TrimPrefix(string(text), "0o"), 8, 32)
	if err != nil || n&^0o644 != 0 || n&0o600 != 0o600 {
		return fmt.Errorf("%q is not one of 0600, 0640 and 0644", text)
	}
	*m = fileMode(n)
	return nil
}

func (m fileMode) file() fs.FileMode { return fs.FileMode(m) }

// dir is the mode of folders: whoever may read files may enter and list them.
func (m fileMode) dir() fs.FileMode { return fs.FileMode(m) | fs.FileMode(m)>>2&0o111 }

// warnOpen says of folders that were there before, and that this process leaves
// as they are, when they let in more than the configuration does.
func warnOpen(log zerolog.Logger, mode fs.FileMode, dirs ...string) {
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				log.Warn().Err(err).Str("folder", dir).Msg("folder cannot be looked at")
			}
			continue
		}
		if more := info.Mode().Perm() &^ mode & 0o007; more != 0 {
			log.Warn().Str("folder", dir).Str("mode", info.Mode().Perm().String()).Msg("everybody on this machine may look into this folder; mend it with chmod o-rwx")
		}
	}
}

// warnOpenTiers does so for the tiers.
func warnOpenTiers(log zerolog.Logger, c disk.Config) { warnOpen(log, c.DirMode, c.High, c.Medium) }
