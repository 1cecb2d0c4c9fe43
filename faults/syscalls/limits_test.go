//go:build linux

package syscalls

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What cannot be watched is refused or said.
func TestUnseen(t *testing.T) {
	needs(t, Notify)
	dir := t.TempDir()
	out := run(t, dir, nil, []string{"fsync:eio"}, "uring", "write a 1", "mmap a", "mmap a", "fsync a")
	if out.said[0] != unix.ENOSYS.Error() || out.said[2] != "0" {
		t.Errorf("the target met %q", out.said)
	}
	want := []string{filepath.Join(resolved(t, dir), "a") + " is mapped for writing: stores to it go unseen", "io_uring is refused: what it writes would go unseen"}
	if got := out.sup.Unseen(); !slices.Equal(got, want) {
		t.Errorf("unseen %q, want %q", got, want)
	}
	n := 0
	for _, line := range out.log {
		if strings.HasPrefix(line, "syscalls: ") {
			n++
		}
	}
	if n != 2 {
		t.Errorf("the log is %q", out.log)
	}
}

func resolved(t *testing.T, dir string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Files elsewhere do not count with a folder, and pipes and devices never do.
func TestOnlyFilesOfTheFolder(t *testing.T) {
	needs(t, Notify)
	dir, other := t.TempDir(), t.TempDir()
	link := filepath.Join(other, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	out := run(t, dir, nil, []string{"any:nth=3:eio"}, "write "+other+"/x 1", "write a 1", "unlink "+other+"/x", "unlink "+link+"/a")
	// Create and write of a are the first two; a link leads to the third.
	if want := []string{"1", "1", "0", unix.EIO.Error()}; !slices.Equal(out.said, want) {
		t.Errorf("the target met %q, want %q (%v)", out.said, want, out.sup.Status())
	}
}

// Observed calls come in order and with their data, before they are made.
func TestObserve(t *testing.T) {
	needs(t, Notify, Files)
	dir := t.TempDir()
	var got []string
	observe := func(c *Call) {
		if c.Err != nil {
			t.Error(c.Err)
		}
		got = append(got, fmt.Sprintf("%s %s %s %d %q", c.Op, filepath.Base(c.Path), filepath.Base(c.From), c.Offset, c.Data))
	}
	run(t, dir, observe, nil, "write a 12", "pwrite a 5 x", "append a y", "writev a 34 56", "fsync a", "rename a b", "read b", "mkdir d",
		"link b c", "unlink c", "rmdir d", "truncate b 3", "write e 12345678", "seek e 2", "copy e f 4", "copyat e f 1 9 3", "sendfile e f 9", "syncdir .")
	here := filepath.Base(resolved(t, dir))
	want := []string{`create a . 0 ""`, `write a . 0 "12"`, `write a . 5 "x"`, `open a . 0 ""`, `write a . 6 "y"`, `write a . 2 "3456"`, `fsync a . 0 ""`,
		`rename b a 0 ""`, `create b . 0 ""`, `mkdir d . 0 ""`, `link c b 0 ""`, `unlink c . 0 ""`, `rmdir d . 0 ""`,
		`truncate b . 3 ""`, `create e . 0 ""`, `write e . 0 "12345678"`, `create f . 0 ""`, `write f . 0 "3456"`, `write f . 9 "234"`, `write f . 4 "78"`,
		`open ` + here + ` . 0 ""`, `fsync ` + here + ` . 0 ""`}
	if !slices.Equal(got, want) {
		t.Errorf("observed\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A call that hangs ends with its process, and with the supervisor.
func TestHang(t *testing.T) {
	needs(t, Notify)
	for _, close := range []bool{true, false} {
		dir := t.TempDir()
		fired := make(chan struct{}, 1)
		s, err := New(Config{Rules: parse(t, []string{"fsync:hang"}), Dir: dir, Log: func(line string) {
			if strings.HasPrefix(line, "fault fired") {
				fired <- struct{}{}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		self, args := s.Command(os.Args[0], nil)
		cmd := exec.Command(self, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), scriptVar+"=write a 1\nfsync a\nwrite a 2")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-fired:
		case <-time.After(time.Minute):
			t.Fatal("the rule did not fire")
		}
		if close {
			s.Close()
		} else if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		var said []string
		for sc := bufio.NewScanner(out); sc.Scan(); {
			said = append(said, sc.Text())
		}
		_ = cmd.Wait()
		s.Close()
		// Without a supervisor what is watched fails, and nothing hangs.
		want := []string{"write a 1: 1"}
		if close {
			want = append(want, "fsync a: "+unix.ENOSYS.Error(), "write a 2: 1")
		}
		if !slices.Equal(said, want) {
			t.Errorf("closed %t: the target said %q, want %q", close, said, want)
		}
	}
}

// Rules count over several programs that are started through one supervisor.
func TestOneSupervisorSeveralPrograms(t *testing.T) {
	needs(t, Notify)
	dir := t.TempDir()
	s, err := New(Config{Rules: parse(t, []string{"write:nth=3:eio"}), Dir: dir, Log: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	failed := 0
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			self, args := s.Command(os.Args[0], nil)
			cmd := exec.Command(self, args...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), scriptVar+"=write "+strconv.Itoa(i)+" x")
			out, err := cmd.CombinedOutput()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			if strings.Contains(string(out), unix.EIO.Error()) {
				failed++
			}
		})
	}
	wg.Wait()
	if st := s.Status()[0]; failed != 1 || st.Seen != 4 || st.Fired != 1 {
		t.Errorf("%d writes failed, status %+v", failed, st)
	}
}

// Run passes signals on and leaves nothing behind.
func TestRun(t *testing.T) {
	needs(t, Notify)
	s, err := New(Config{Rules: parse(t, []string{"fsync:eio"}), Log: func(string) {}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	cmd := exec.Command("sh", "-c", `trap 'exit 7' TERM; sleep 1000 & echo $!; wait`)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	signals := make(chan os.Signal, 1)
	state := make(chan *os.ProcessState, 1)
	go func() {
		st, err := s.Run(cmd, signals)
		if err != nil {
			t.Error(err)
		}
		state <- st
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	left, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	signals <- syscall.SIGTERM
	if st := <-state; st.ExitCode() != 7 {
		t.Errorf("the command ended with %v", st)
	}
	for deadline := time.Now().Add(time.Minute); alive(left); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived the command", left)
		}
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z") // a zombie is dead, too
}

// What a launcher says is checked, and a target that is not there is an error of
// the launcher.
func TestHandshake(t *testing.T) {
	needs(t, Notify)
	var mu sync.Mutex
	var log []string
	s, err := New(Config{Rules: parse(t, []string{"fsync:eio"}), Log: func(line string) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, line)
	}})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", s.sock.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte{1}) // no descriptor comes with it
	if n, err := conn.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes of an answer", n)
	}
	conn.Close()
	self, args := s.Command("/no/such/program", nil)
	out, err := exec.Command(self, args...).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != launchFailed || !strings.Contains(string(out), "no such file") {
		t.Errorf("%v: %s", err, out)
	}
	silent, err := net.Dial("unix", s.sock.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s.Close() // does not wait for it
	s.Close()
	mu.Lock()
	defer mu.Unlock()
	if len(log) == 0 || !strings.Contains(log[0], "no listener from a launcher") {
		t.Errorf("the log is %q", log)
	}
}

// Probe tells what there is, and that nothing else is known.
func TestProbe(t *testing.T) {
	if err := Probe(t.Context(), "telepathy"); err == nil {
		t.Error("an unknown ability is there")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Probe(ctx, Notify); err == nil {
		t.Error("a probe that could not be made succeeded")
	}
}

// A path of the target is read up to a limit, page by page.
func TestPathsAreBounded(t *testing.T) {
	needs(t, Notify)
	long := strings.Repeat("x", 200)
	deep := strings.Repeat(long+"/", 25) // more than PATH_MAX
	out := run(t, t.TempDir(), nil, []string{"mkdir:path=d:eio"}, "mkdir "+deep, "mkdir d")
	if want := []string{unix.ENAMETOOLONG.Error(), unix.EIO.Error()}; !slices.Equal(out.said, want) {
		t.Errorf("the target met %q, want %q", out.said, want)
	}
}
