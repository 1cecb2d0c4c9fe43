//go:build linux

package syscalls

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is its own target: with this variable it does what its lines
// say, in the folder that it was started in, and says how each went.
const scriptVar = "DS4_SYSCALLS_TEST_SCRIPT"

// harnessVar makes the test binary one that runs such a script under a supervisor.
const harnessVar = "DS4_SYSCALLS_TEST_HARNESS"

func TestMain(m *testing.M) {
	Main(os.Args[1:])
	if script := os.Getenv(harnessVar); script != "" {
		harness(script)
		return
	}
	if script := os.Getenv(scriptVar); script != "" {
		t := &actor{open: map[string]*os.File{}}
		for line := range strings.SplitSeq(script, "\n") {
			fmt.Printf("%s: %s\n", line, t.do(strings.Fields(line)))
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// actor makes system calls.
type actor struct {
	mu   sync.Mutex
	open map[string]*os.File
}

func (a *actor) file(name string) *os.File {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.open[name] == nil {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil
		}
		a.open[name] = f
	}
	return a.open[name]
}

func (a *actor) fd(name string) int {
	if f := a.file(name); f != nil {
		return int(f.Fd())
	}
	return -1
}

func said(n int, err error) string {
	if err != nil {
		return err.Error()
	}
	return strconv.Itoa(n)
}

// do makes one call. Those of package unix are made as they are, those of package
// os as programs make them: with retries.
func (a *actor) do(w []string) string {
	num := func(i int) int { n, _ := strconv.Atoi(w[i]); return n }
	var err error
	switch w[0] {
	case "write":
		return said(unix.Write(a.fd(w[1]), []byte(w[2])))
	case "pwrite":
		return said(unix.Pwrite(a.fd(w[1]), []byte(w[3]), int64(num(2))))
	case "writev":
		var list [][]byte
		for _, t := range w[2:] {
			list = append(list, []byte(t))
		}
		return said(unix.Writev(a.fd(w[1]), list))
	case "append":
		fd, err := unix.Open(w[1], unix.O_WRONLY|unix.O_APPEND, 0)
		if err != nil {
			return err.Error()
		}
		return said(unix.Write(fd, []byte(w[2])))
	case "read":
		b := make([]byte, 100)
		n, err := unix.Pread(a.fd(w[1]), b, 0)
		return fmt.Sprintf("%s %q", said(n, err), b[:max(n, 0)])
	case "copy":
		return said(unix.CopyFileRange(a.fd(w[1]), nil, a.fd(w[2]), nil, num(3), 0))
	case "copyat":
		in, out := int64(num(3)), int64(num(4))
		n, err := unix.CopyFileRange(a.fd(w[1]), &in, a.fd(w[2]), &out, num(5), 0)
		return fmt.Sprintf("%s in=%d out=%d", said(n, err), in, out)
	case "sendfile":
		return said(unix.Sendfile(a.fd(w[2]), a.fd(w[1]), nil, num(3)))
	case "seek":
		n, err := unix.Seek(a.fd(w[1]), int64(num(2)), unix.SEEK_SET)
		return said(int(n), err)
	case "save": // as a Go program does it
		err = os.WriteFile(w[1], []byte(w[2]), 0o600)
	case "fsync":
		err = unix.Fsync(a.fd(w[1]))
	case "fdatasync":
		err = unix.Fdatasync(a.fd(w[1]))
	case "syncdir":
		var d *os.File
		if d, err = os.Open(w[1]); err == nil {
			err = d.Sync()
		}
	case "rename":
		err = unix.Rename(w[1], w[2])
	case "renameat2":
		err = unix.Renameat2(unix.AT_FDCWD, w[1], unix.AT_FDCWD, w[2], unix.RENAME_NOREPLACE)
	case "link":
		err = unix.Link(w[1], w[2])
	case "symlink":
		err = unix.Symlink(w[1], w[2])
	case "unlink":
		err = unix.Unlink(w[1])
	case "mkdir":
		err = unix.Mkdir(w[1], 0o700)
	case "rmdir":
		err = unix.Rmdir(w[1])
	case "truncate":
		err = unix.Truncate(w[1], int64(num(2)))
	case "ftruncate":
		err = unix.Ftruncate(a.fd(w[1]), int64(num(2)))
	case "fallocate":
		err = unix.Fallocate(a.fd(w[1]), 0, 0, int64(num(2)))
	case "create":
		fd, e := unix.Open(w[1], unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, 0o600)
		return said(min(fd, 0), e)
	case "open":
		fd, e := unix.Open(w[1], unix.O_RDONLY, 0)
		return said(min(fd, 0), e)
	case "openat2":
		fd, e := unix.Openat2(unix.AT_FDCWD, w[1], &unix.OpenHow{Flags: unix.O_CREAT | unix.O_WRONLY, Mode: 0o600})
		return said(min(fd, 0), e)
	case "ls":
		list, e := os.ReadDir(w[1])
		return said(len(list), e)
	case "badwrite": // from where there is no memory
		_, _, e := unix.Syscall(unix.SYS_WRITE, uintptr(a.fd(w[1])), 8, uintptr(num(2)))
		err = e
	case "badvec": // more vectors than there may be, or than there are
		_, _, e := unix.Syscall(unix.SYS_WRITEV, uintptr(a.fd(w[1])), uintptr(num(2)), uintptr(num(3)))
		err = e
	case "badpath":
		_, _, e := unix.Syscall(unix.SYS_UNLINKAT, uintptr(num(1)), 8, 0)
		err = e
	case "badfd":
		_, _, e := unix.Syscall(unix.SYS_FSYNC, uintptr(num(1)), 0, 0)
		err = e
	case "uring":
		_, _, e := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, 0, 0)
		err = e
	case "mmap":
		_, err = unix.Mmap(a.fd(w[1]), 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	case "pid":
		return said(os.Getpid(), nil)
	case "wait":
		time.Sleep(time.Hour)
	case "threads":
		return a.threads(w[1], num(2))
	case "fork":
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), scriptVar+"="+strings.ReplaceAll(strings.Join(w[1:], " "), "%", " "))
		out, e := c.Output()
		if e != nil {
			return e.Error()
		}
		return strings.TrimSpace(string(out))
	}
	return said(0, err)
}

// threads writes one byte from each of n threads and says how many failed.
func (a *actor) threads(name string, n int) string {
	var wg sync.WaitGroup
	failed := make(chan error, n)
	a.file(name)
	for range n {
		wg.Go(func() {
			runtime.LockOSThread()
			if _, err := unix.Write(a.fd(name), []byte("x")); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	return fmt.Sprintf("%d failed", len(failed))
}

// run runs a script under rules and returns what it said, without the commands
// themselves, and how it ended.
type outcome struct {
	said  []string
	log   []string
	state *os.ProcessState
	sup   *Supervisor
}

func parse(t *testing.T, texts []string) (list []Rule) {
	t.Helper()
	for _, text := range texts {
		r, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

// needs skips the test where the host does not allow what it is about.
func needs(t *testing.T, list ...Ability) {
	t.Helper()
	for _, a := range list {
		if err := Probe(t.Context(), a); err != nil {
			t.Skip(err)
		}
	}
}

func run(t *testing.T, dir string, observe func(*Call), rules []string, script ...string) outcome {
	t.Helper()
	var out outcome
	var mu sync.Mutex
	s, err := New(Config{Rules: parse(t, rules), Dir: dir, Observe: observe, Log: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		out.log = append(out.log, line)
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	self, args := s.Command(os.Args[0], nil)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), scriptVar+"="+strings.Join(script, "\n"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	_ = cmd.Run() // its state says how it ended
	if ctx.Err() != nil {
		t.Fatalf("the target hangs; it said:\n%s", text.String())
	}
	for sc := bufio.NewScanner(&text); sc.Scan(); {
		_, after, _ := strings.Cut(sc.Text(), ": ")
		out.said = append(out.said, after)
	}
	out.state, out.sup = cmd.ProcessState, s
	mu.Lock()
	defer mu.Unlock()
	out.log = slices.Clone(out.log)
	return out
}
