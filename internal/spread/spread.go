// Package spread keeps short-lived files from slowing each other down on an ext4
// without a journal.
package spread

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// topDir marks a folder as one whose folders have nothing to do with one another:
// FS_TOPDIR_FL of linux/fs.h, `chattr +T`.
const topDir = 0x00020000

// Mark has an ext4 without a journal put the folders that are made in dir from now
// on far from one another on the disk, each with the files in it. Otherwise they
// share a group of inodes, and to make a file such an ext4 looks past each inode
// of its group that was deleted within the last minutes (fs/ext4/ialloc.c,
// recently_deleted). A worker makes and removes some twenty files an attempt: all
// in one group, that came to a fifth of the fleet's processor time, and of the
// engine's, which shared the group. Nothing is done elsewhere: with a journal it
// would be worth nothing, and cost.
func Mark(dir string) {
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer f.Close()
	if !worthIt(f) {
		return
	}
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil && flags&topDir == 0 {
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topDir)
	}
}

// worthIt reports whether a folder is on an ext4 that the kernel says has no
// journal.
func worthIt(dir *os.File) bool {
	var fs unix.Statfs_t
	var st unix.Stat_t
	if unix.Fstatfs(int(dir.Fd()), &fs) != nil || fs.Type != unix.EXT4_SUPER_MAGIC || unix.Fstat(int(dir.Fd()), &st) != nil {
		return false
	}
	device, err := os.Readlink(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev)))
	if err != nil {
		return false
	}
	journal, err := os.ReadFile(filepath.Join("/sys/fs/ext4", filepath.Base(device), "journal_task"))
	return err == nil && strings.TrimSpace(string(journal)) == "<none>"
}
