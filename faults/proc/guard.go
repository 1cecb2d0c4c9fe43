package proc

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
)

// guardWord is the first argument of the guard process. No person types it.
const guardWord = "__guard"

// hasMain says that a program started again would do what it is told.
var hasMain atomic.Bool

// Main is the guard process, if the arguments (without the program's name) say so;
// then it does not return. A program calls it before anything else.
func Main(args []string) {
	hasMain.Store(true)
	if len(args) != 1 || args[0] != guardWord {
		meetStrangers()
		return
	}
	watch(os.Stdin)
	os.Exit(0)
}

// watch reads the numbers and marks of processes that come, with a plus, and go, with
// a minus, and kills the families that are left when the harness is gone: it cannot
// say goodbye when it is killed.
func watch(in io.Reader) {
	marks := map[int]string{}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		number, mark, _ := strings.Cut(strings.TrimLeft(lines.Text(), "+-"), " ")
		pid, err := strconv.Atoi(number)
		if err != nil || pid <= 1 {
			continue
		}
		if strings.HasPrefix(lines.Text(), "+") {
			marks[pid] = mark
		} else {
			delete(marks, pid)
		}
	}
	for pid, mark := range marks {
		endFamily(pid, mark, false)
	}
}

// keeper is the one guard process of this program.
var keeper struct {
	mu     sync.Mutex
	cmd    *exec.Cmd
	in     io.WriteCloser
	groups int
}

// guard has the family of a process killed if this program dies before the returned
// function is called. Without a guard process there is only what the kernel does.
func guard(pid int, mark string) (release func()) {
	keeper.mu.Lock()
	defer keeper.mu.Unlock()
	if !hasMain.Load() || !startKeeper() {
		return func() {}
	}
	keeper.groups++
	fmt.Fprintf(keeper.in, "+%d %s\n", pid, mark)
	return func() {
		keeper.mu.Lock()
		defer keeper.mu.Unlock()
		fmt.Fprintf(keeper.in, "-%d\n", pid)
		if keeper.groups--; keeper.groups == 0 { // nothing to guard: it ends, too
			_ = keeper.in.Close()
			_ = keeper.cmd.Wait()
			keeper.cmd = nil
		}
	}
}

// startKeeper starts the guard process unless it runs; mu is held. It is in a
// group of its own, so that an interrupt from a terminal does not end it.
func startKeeper() bool {
	if keeper.cmd != nil {
		return true
	}
	path, err := os.Executable()
	if err != nil {
		return false
	}
	cmd := exec.Command(path, guardWord)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil || cmd.Start() != nil {
		return false
	}
	keeper.cmd, keeper.in = cmd, in
	return true
}
