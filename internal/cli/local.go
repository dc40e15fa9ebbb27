package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"syscall"

	"sluice/worker/docker"
)

// checkEngine reports in one sentence why no container can be run here.
func checkEngine(ctx context.Context) error {
	runtime, err := docker.New(docker.Config{})
	if err != nil {
		return err
	}
	return errors.Join(runtime.Check(ctx), runtime.Close())
}

// pathHash stands for a folder in names.
func pathHash(folder string) string {
	sum := sha256.Sum256([]byte(folder))
	return hex.EncodeToString(sum[:6])
}

// folderOwner returns who owns a folder, when this process may give files
// away: outputs then belong to the study's owner, not to root.
func folderOwner(folder string) (uid, gid int, ok bool) {
	info, err := os.Stat(folder)
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0, false
	}
	return int(st.Uid), int(st.Gid), true
}
