package disk

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is its own server under test: with this variable it acts as one.
const helperVar = "DS4_DISK_TEST_HELPER"

func TestMain(m *testing.M) {
	Main(os.Args[1:])
	if mode := os.Getenv(helperVar); mode != "" {
		helper(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

// helper does what standard input says, and answers each line with a line.
func helper(mode string) {
	if mode == "harness" {
		harness()
		return
	}
	var open []*os.File
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		verb, name, _ := strings.Cut(in.Text(), " ")
		var err error
		switch verb {
		case "write": // 100 kB
			err = os.WriteFile(name, make([]byte, 100_000), 0o600)
		case "open":
			var f *os.File
			if f, err = os.Open(name); err == nil {
				open = append(open, f)
			}
		case "close":
			err = open[0].Close()
			open = open[1:]
		case "user":
			err = fmt.Errorf("%d", os.Getuid())
		}
		fmt.Println(verb, err)
	}
}

// harness makes a volume, starts a server in it, says so and waits to be killed.
func harness() {
	v, err := NewVolume(context.Background(), os.Getenv("DS4_DISK_TEST_DIR"), 1<<20)
	if err != nil {
		fmt.Println(err)
		return
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"=server")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	v.Enter(cmd.SysProcAttr)
	if _, err := cmd.StdinPipe(); err != nil {
		fmt.Println(err)
		return
	}
	if err := cmd.Start(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("server", cmd.Process.Pid)
	_ = cmd.Wait()
}

// need skips a test that this host does not allow; CI hosts differ.
func need(t *testing.T, list ...Ability) {
	t.Helper()
	for _, a := range list {
		if err := Probe(t.Context(), a); err != nil {
			t.Skip(err)
		}
	}
}

// child is a running helper.
type child struct {
	t    *testing.T
	cmd  *exec.Cmd
	say  func(string)
	hear *bufio.Reader
}

func start(t *testing.T, kind func(*syscall.SysProcAttr)) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"=server")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	kind(cmd.SysProcAttr)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &child{t, cmd, func(line string) { fmt.Fprintln(in, line) }, bufio.NewReader(out)}
}

// do has the child do something and wants an answer with the text in it.
func (c *child) do(what, want string) {
	c.t.Helper()
	c.say(what)
	line, err := c.hear.ReadString('\n')
	if err != nil || !strings.Contains(line, want) {
		c.t.Errorf("%s: %q (%v), want %q", what, line, err, want)
	}
}

const fine = "<nil>"

// TestVolume: a disk that fills up and is freed, for one process and not for us;
// what is on it outlives the process.
func TestVolume(t *testing.T) {
	need(t, Volumes)
	at, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(at, link); err != nil {
		t.Fatal(err)
	}
	v, err := NewVolume(t.Context(), link, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	c := start(t, v.Enter)
	c.do("user", strconv.Itoa(plainUser))
	c.do("write "+at+"/a", fine)
	if fi, err := os.Stat(filepath.Join(v.Dir(), "a")); err != nil || fi.Size() != 100_000 {
		t.Errorf("the harness does not see the file: %v", err)
	}
	if list, err := os.ReadDir(at); err != nil || len(list) > 0 {
		t.Errorf("the volume shows outside: %v %v", list, err)
	}
	if err := v.Fill(50_000); err != nil {
		t.Fatal(err)
	}
	if free, err := v.Available(); err != nil || free > 50_000 || free < 40_000 {
		t.Errorf("%d bytes left, %v", free, err)
	}
	c.do("write "+at+"/b", unix.ENOSPC.Error())
	if err := v.Free(); err != nil {
		t.Fatal(err)
	}
	c.do("write "+at+"/c", fine)
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
	if err := v.Fill(0); err != nil {
		t.Fatal(err)
	}
	c = start(t, v.Enter) // another process, the same disk
	c.do("open "+at+"/c", fine)
	c.do("write "+at+"/d", unix.ENOSPC.Error())
}

func TestVolumeErrors(t *testing.T) {
	need(t, Volumes)
	if _, err := NewVolume(t.Context(), t.TempDir(), 10); err == nil {
		t.Error("a volume of 10 bytes")
	}
	if _, err := NewVolume(t.Context(), filepath.Join(t.TempDir(), "none"), 1<<20); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("mounted on a folder that is not there: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewVolume(t.Context(), file, 1<<20); !errors.Is(err, ErrUnavailable) || !strings.Contains(err.Error(), "mount a tmpfs on "+file) {
		t.Errorf("mounted on a file: %v", err)
	}
}

// TestNothingIsLeft: the harness is killed with SIGKILL. Its server dies, and no
// process sees the mount any more.
func TestNothingIsLeft(t *testing.T) {
	need(t, Volumes)
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"=harness", "DS4_DISK_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "server ")))
	if err != nil {
		t.Errorf("the harness says %q", line)
	} else if !mounted(t, pid, dir) {
		t.Errorf("process %d does not see a mount on %s", pid, dir)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for deadline := time.Now().Add(30 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived the harness", pid)
		}
	}
	procs, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil || len(procs) == 0 {
		t.Fatalf("%d processes, %v", len(procs), err)
	}
	for _, p := range procs {
		if text, err := os.ReadFile(p); err == nil && strings.Contains(string(text), " "+dir+" ") {
			t.Errorf("%s still has the mount", p)
		}
	}
}

// mounted looks through the process's own root, which is that of the volume's
// namespace: its mount table would be that of its namespace.
func mounted(t *testing.T, pid int, dir string) bool {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/proc/"+strconv.Itoa(pid)+"/root"+dir, &st); err != nil {
		t.Error(err)
		return false
	}
	return st.Type == unix.TMPFS_MAGIC && int64(st.Blocks)*st.Bsize == 1<<20
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestLimits(t *testing.T) {
	need(t, Limits)
	dir := t.TempDir()
	c := start(t, Powerless)
	pid := c.cmd.Process.Pid
	c.do("write "+dir+"/a", fine)
	set := func(err error) {
		t.Helper()
		if err != nil {
			t.Error(err)
		}
	}
	set(LimitFileSize(pid, 50_000))
	c.do("write "+dir+"/b", unix.EFBIG.Error())
	set(LimitFileSize(pid, -1))
	c.do("write "+dir+"/c", fine)

	set(LimitFiles(pid, 0))
	c.do("open "+dir+"/a", unix.EMFILE.Error())
	set(LimitFiles(pid, 2))
	c.do("open "+dir+"/a", fine)
	c.do("open "+dir+"/a", fine)
	c.do("open "+dir+"/a", unix.EMFILE.Error())
	c.do("close", fine)
	set(LimitFiles(pid, 0)) // with a gap among the numbers
	c.do("open "+dir+"/a", unix.EMFILE.Error())
	set(LimitFiles(pid, -1))
	c.do("open "+dir+"/a", fine)
	c.do("open "+dir+"/a", fine)
	if LimitFiles(1<<30, 0) == nil || LimitFileSize(1<<30, 1) == nil {
		t.Error("limits of a process that is not there")
	}
}

func TestModes(t *testing.T) {
	need(t, Modes)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.MkdirAll(filepath.Join(dir, "in", "side"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := start(t, Powerless)
	c.do("write "+dir+"/a", fine)
	for _, step := range []struct {
		mode        fs.FileMode
		open, write string
	}{{0o500, fine, unix.EACCES.Error()}, {0, unix.EACCES.Error(), unix.EACCES.Error()}, {0o700, fine, fine}} {
		if err := ChmodDirs(dir, step.mode); err != nil {
			t.Fatal(err)
		}
		c.do("open "+dir+"/a", step.open)
		c.do("write "+dir+"/in/side/"+step.mode.String(), step.write)
		c.do("write "+dir+"/"+step.mode.String(), step.write)
	}
}

func TestStrangers(t *testing.T) {
	need(t, Strangers)
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := start(t, Powerless)
	c.do("write "+dir+"/a", fine)
	if err := GiveAway(dir); err != nil {
		t.Fatal(err)
	}
	c.do("open "+dir+"/a", unix.EACCES.Error())
	if err := TakeBack(dir); err != nil {
		t.Fatal(err)
	}
	c.do("write "+dir+"/b", fine)
}

// TestRemoveWhileWriting: the folder goes away under a process that fills it.
func TestRemoveWhileWriting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
				_ = os.WriteFile(filepath.Join(dir, strconv.Itoa(n)), nil, 0o600)
			}
		}
	}()
	err := RemoveDir(dir)
	close(stop)
	<-done
	if _, statErr := os.Stat(dir); err != nil || !errors.Is(statErr, fs.ErrNotExist) {
		t.Errorf("%v, then %v", err, statErr)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	to, err := MoveDir(dir, "moved")
	if _, statErr := os.Stat(to); err != nil || statErr != nil || filepath.Base(to) != "moved" {
		t.Errorf("%s: %v, then %v", to, err, statErr)
	}
}

// TestProbe: every ability gets an answer, and a program without Main is told.
func TestProbe(t *testing.T) {
	for _, a := range Abilities() {
		err := Probe(t.Context(), a)
		t.Logf("%-9s %v", a, err)
		if err != nil && !errors.Is(err, ErrUnavailable) || a.About() == string(a) {
			t.Errorf("%s (%s): %v", a, a.About(), err)
		}
	}
	if Probe(t.Context(), "luck") == nil {
		t.Error("an ability that nobody has heard of")
	}
	hasMain.Store(false)
	defer hasMain.Store(true)
	if err := Probe(t.Context(), Volumes); !errors.Is(err, ErrNoMain) {
		t.Errorf("without Main: %v", err)
	}
}

// TestConnections: of the sockets of a process those count as passing that have
// a peer, or had one, whichever side they are on.
func TestConnections(t *testing.T) {
	number := func(c syscall.Conn) (n int) {
		raw, err := c.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { n = int(fd) })
		}
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer here.Close()
	there, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	fds := []int{number(l.(syscall.Conn)), number(here.(syscall.Conn)), number(there.(syscall.Conn))}
	for _, step := range []string{"connected", "reset"} {
		got, err := connections(os.Getpid(), fds)
		if err != nil || got[fds[0]] || !got[fds[1]] || !got[fds[2]] {
			t.Errorf("%s: of listener %d, client %d and server %d these are connections: %v %v", step, fds[0], fds[1], fds[2], got, err)
		}
		if step == "connected" {
			must(t, there.(*net.TCPConn).SetLinger(0))
			_, _ = here.Write([]byte("x"))
			must(t, there.Close())
			_, err := here.Read(make([]byte, 1)) // comes back when the reset has arrived
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("read from a connection that was reset: %v", err)
			}
			fds[2] = fds[1]
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
