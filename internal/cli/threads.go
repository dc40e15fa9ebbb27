package cli

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// tuneThreads fits Go's scheduler to what a service of ours does, which is to wait
// for the disk a few times a job. Where an operator sets GOMAXPROCS, it does
// nothing.
//
// Each goroutine that waits in a system call has one of Go's turns until the
// runtime takes notice: with as many turns as processors, two syncs keep all
// others waiting on a machine of two. So there are more turns than processors, as
// many as at the start: Go does not follow a cgroup's limit any more that is
// changed later.
//
// The runtime takes notice by a thread that sleeps 20 µs at a time while anything
// goes on, an eighth of the fleet's processor time. Root, and whoever has
// CAP_SYS_NICE, may have all threads woken up to a millisecond late, and that one
// with them; deploy/systemd asks systemd for the same.
var tuneThreads = sync.OnceFunc(func() {
	const least, factor = 4, 2
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	runtime.GOMAXPROCS(max(least, factor*runtime.GOMAXPROCS(0)))
	wakeLate()
})

// wakeLate gives every thread of this process a timer slack of a millisecond, and
// with it those that they make later; none, where it may not be given to all.
func wakeLate() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own := strconv.Itoa(syscall.Gettid())
	give := func(thread string) bool {
		return os.WriteFile(filepath.Join("/proc", thread, "timerslack_ns"), []byte("1000000"), 0) == nil
	}
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads { // one's own is always allowed: it comes last
		if t.Name() != own && !give(t.Name()) {
			return
		}
	}
	give(own)
}
