package proc

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of the hunt for what a process has left behind.
const (
	huntFor   = 5 * time.Second // a killed process that is not gone by then waits for a device
	huntEvery = 5 * time.Millisecond
	// maxEnviron bounds what is read of a foreign environment, or of arguments.
	maxEnviron = 1 << 20
)

// strangers says that this program had children before it started any, or that it is
// init of a container: those of a script that became this program, or whoever was
// started beside it. What comes to us may then be theirs, and only what has the mark is
// killed. Main finds out.
var strangers = true

func meetStrangers() {
	self := os.Getpid()
	strangers = self == 1
	eachProcess(func(_ int, st stat) { strangers = strangers || st.parent == self })
}

// adoptOrphans makes this program the parent of every descendant that loses its own,
// so that a daemon does not leave for init. It is asked for once.
var adoptOrphans = sync.OnceFunc(func() {
	_ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) // kernels since 3.4 can; without it the mark remains
})

// endFamily kills the descendants of a process that has ended: those of its group,
// those that have the mark in their environment, and, if nobody else can have started
// them, those that came to us and are in a session of their own.
func endFamily(pid int, mark string, last bool) {
	killGroup(pid)
	f := &family{group: pid, mark: mark, heir: last && !strangers, self: os.Getpid(), killed: map[int]bool{}}
	f.session, _ = unix.Getsid(0)
	for end := time.Now().Add(huntFor); f.sweep() > 0 && time.Now().Before(end); {
		time.Sleep(huntEvery)
	}
}

// family is what a process may have left behind.
type family struct {
	group         int
	mark          string
	heir          bool // whoever comes to us is of this family
	self, session int
	killed        map[int]bool
}

// sweep goes through all processes once and returns how many had to be killed, or have
// yet to end.
func (f *family) sweep() (n int) {
	eachProcess(func(pid int, st stat) {
		foreign := st.session != f.session // what os/exec waits for is in our session
		ours := st.parent == f.self && (st.group == f.group || f.heir && foreign || f.killed[pid])
		switch {
		case pid == f.self:
		case st.zombie && st.parent == f.self && (foreign || ours): // nobody else waits for it
			// It cannot be waited for while a thread of it runs, or has yet to end.
			switch got, _ := unix.Wait4(pid, nil, unix.WNOHANG, nil); {
			case got != 0:
			case ours:
				n += f.kill(pid, st.start, true)
			default:
				n++
			}
		case st.zombie:
		case ours:
			n += f.kill(pid, st.start, true)
		case st.kernel:
		default:
			switch yes, known := marked(pid, f.mark); {
			case yes:
				n += f.kill(pid, st.start, false)
			case !known:
				n++
			}
		}
	})
	return n
}

// eachProcess calls visit for every process that can be seen.
func eachProcess(visit func(pid int, st stat)) {
	dir, err := os.Open("/proc")
	if err != nil {
		return
	}
	names, _ := dir.Readdirnames(-1)
	dir.Close()
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if st, ok := readStat(pid); ok {
				visit(pid, st)
			}
		}
	}
}

// kill kills a process that was found to belong to the family, unless another one has
// its number by now. It returns 1 if it did.
func (f *family) kill(pid int, start string, adopted bool) int {
	p, err := os.FindProcess(pid) // a handle where the kernel has such
	if err != nil {
		return 0
	}
	defer p.Release()
	if st, ok := readStat(pid); !ok || st.start != start {
		return 0
	}
	if !adopted {
		if yes, _ := marked(pid, f.mark); !yes {
			return 0
		}
	}
	if p.Signal(syscall.SIGKILL) != nil {
		return 0
	}
	f.killed[pid] = true
	return 1
}

// stat is what /proc/PID/stat says of a process.
type stat struct {
	zombie, kernel         bool // it has ended; it is a thread of the kernel
	parent, group, session int
	start                  string // ticks since boot
}

func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, false
	}
	// The name of the program is in parentheses and may contain any character.
	_, rest, ok := strings.Cut(string(text[bytes.LastIndexByte(text, ')')+1:]), " ")
	fields := strings.Fields(rest)
	const flagsField, startField = 6, 19 // of those behind the name
	if !ok || len(fields) <= startField {
		return stat{}, false
	}
	const kernelThread = 1 << 21 // PF_KTHREAD
	flags, _ := strconv.ParseUint(fields[flagsField], 10, 64)
	st := stat{zombie: fields[0] == "Z" || fields[0] == "X", kernel: flags&kernelThread != 0, start: fields[startField]}
	for i, to := range []*int{&st.parent, &st.group, &st.session} {
		if *to, err = strconv.Atoi(fields[1+i]); err != nil {
			return stat{}, false
		}
	}
	return st, true
}

// marked says that the environment of a process holds the mark. Neither that nor its
// arguments can be seen while a process becomes another program, after its parent was told
// that it is one, or while it ends: it is not known then.
func marked(pid int, mark string) (yes, known bool) {
	env, err := readStart(pid, "environ")
	if err != nil {
		return false, true // of somebody else, who was not started by us
	}
	if len(env) == 0 {
		args, err := readStart(pid, "cmdline")
		if err != nil {
			return false, true // it is gone
		}
		if len(args) == 0 {
			return false, false
		}
		env, _ = readStart(pid, "environ") // may be there since
	}
	return bytes.Contains(append([]byte{0}, env...), []byte("\x00"+mark+"\x00")), true
}

// readStart reads a file about a process, or the start of it: that may hold the mark, too.
func readStart(pid int, name string) ([]byte, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/" + name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxEnviron))
	return b, nil
}
