package proc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is its own child process: with this variable it acts as one.
const helperVar = "DS4_PROC_TEST_HELPER"

func TestMain(m *testing.M) {
	Main(os.Args[1:])
	if mode := os.Getenv(helperVar); mode != "" {
		helper(mode)
		return
	}
	goleak.VerifyTestMain(m)
}

func helper(mode string) {
	switch mode {
	case "serve", "stubborn":
		term := make(chan os.Signal, 1)
		signal.Notify(term, syscall.SIGTERM)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			os.Exit(3)
		}
		fmt.Fprintf(os.Stderr, "1124 ds4-server: listening on http://%s\n", l.Addr())
		go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
		<-term
		if mode == "stubborn" {
			forever()
		}
		fmt.Print("bye, without an end of line")
	case "chatty":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			os.Exit(3)
		}
		fmt.Fprintf(os.Stderr, "1124 ds4-server: listening on http://%s\n", l.Addr())
		talk := sync.OnceFunc(func() {
			os.Stderr.WriteString(strings.Repeat("busy\n", maxLines+1) + "quiet\n")
		})
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { go talk(); fmt.Fprint(w, "{}") }))
	case "die":
		fmt.Fprintln(os.Stderr, "cannot open the model")
		os.Exit(7)
	case "mute":
		forever()
	case "grandchild":
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), helperVar+"=mute")
		if c.Start() != nil {
			os.Exit(3)
		}
		fmt.Printf("grandchild %d\n", c.Process.Pid)
		forever()
	case "leaves": // the same, and ends
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), helperVar+"=mute")
		if c.Start() != nil {
			os.Exit(3)
		}
		fmt.Printf("grandchild %d\n", c.Process.Pid)
	case "daemon", "bare daemon", "group": // its child is in a session of its own, the bare one without our environment; or in a group
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), helperVar+"=mute")
		if mode == "bare daemon" {
			c.Env = []string{helperVar + "=mute"}
		}
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: mode != "group", Setpgid: mode == "group"}
		if c.Start() != nil {
			os.Exit(3)
		}
		fmt.Printf("grandchild %d\n", c.Process.Pid)
		forever()
	case "headless daemon": // its child has lost its first thread, and runs
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), helperVar+"=headless")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if c.Start() != nil {
			os.Exit(3)
		}
		for !zombie(c.Process.Pid) {
			time.Sleep(time.Millisecond)
		}
		fmt.Printf("grandchild %d\n", c.Process.Pid)
		forever()
	case "late daemon": // its child seems to have no environment for a while
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), helperVar+"=late")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		out, _ := c.StdoutPipe()
		if c.Start() != nil {
			os.Exit(3)
		}
		word, _ := bufio.NewReader(out).ReadString('\n')
		fmt.Printf("grandchild %d %s", c.Process.Pid, word)
		forever()
	case "late":
		show, err := hide()
		fmt.Println(err)
		if err != nil {
			os.Exit(3)
		}
		time.Sleep(300 * time.Millisecond)
		show()
		forever()
	case "headless": // see loseHead
		go func() { time.Sleep(time.Hour) }()
		loseHead()
	case "harness of daemon":
		p, err := Start(config("daemon"))
		if err != nil {
			os.Exit(3)
		}
		line, err := p.log.Wait(context.Background(), 0, regexp.MustCompile("grandchild"))
		fmt.Println(line.Text, err)
		forever()
	case "script": // starts a daemon and becomes a harness
		c := exec.Command(os.Args[0])
		c.Env = []string{helperVar + "=mute"}
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if c.Start() != nil {
			os.Exit(3)
		}
		fmt.Printf("daemon %d\n", c.Process.Pid)
		_ = os.Setenv(helperVar, "harness that ends")
		_ = syscall.Exec(os.Args[0], os.Args[:1], os.Environ())
		os.Exit(3)
	case "harness that ends":
		p, err := Start(config("die"))
		if err != nil {
			os.Exit(3)
		}
		<-p.Done()
	case "harness": // starts a process that has a child, says its number, and waits to be killed
		p, err := Start(config("grandchild"))
		if err != nil {
			os.Exit(3)
		}
		line, err := p.log.Wait(context.Background(), 0, regexp.MustCompile("grandchild"))
		fmt.Println(line.Text, err)
		forever()
	}
}

// forever waits to be killed. In a program without cgo an empty select would be found to be
// a deadlock.
func forever() {
	for {
		time.Sleep(time.Hour)
	}
}

func config(mode string) Config {
	return Config{Path: os.Args[0], Env: []string{helperVar + "=" + mode}, Log: NewLog(nil)}
}

func start(t *testing.T, mode string) *Process {
	t.Helper()
	p, err := Start(config(mode))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestServerStartsAndStops(t *testing.T) {
	p := start(t, "serve")
	url, err := p.WaitReady(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(url, "http://127.0.0.1:") || p.URL() != url {
		t.Errorf("url %q, then %q", url, p.URL())
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait(within(t, 30*time.Second))
	if err != nil || exit.Code != 0 || exit.Signal != 0 {
		t.Errorf("exit %v (%v)", exit, err)
	}
	if got := p.log.Tail(1); got != "bye, without an end of line\n" {
		t.Errorf("the last words are %q", got)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("signal after the end: %v", err)
	}
}

func TestKilled(t *testing.T) {
	p := start(t, "serve")
	if _, err := p.WaitReady(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait(within(t, 30*time.Second))
	if err != nil || exit.Signal != syscall.SIGKILL || exit.String() != "killed by SIGKILL" {
		t.Errorf("exit %v (%v)", exit, err)
	}
	if _, err := p.WaitReady(within(t, 30*time.Second)); !errors.Is(err, ErrExited) {
		t.Errorf("ready after the end: %v", err)
	}
}

func TestNotReady(t *testing.T) {
	p := start(t, "die")
	_, err := p.WaitReady(within(t, 30*time.Second))
	if !errors.Is(err, ErrExited) || !strings.Contains(err.Error(), "cannot open the model") || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("a process that died says %v", err)
	}
	p = start(t, "mute")
	if _, err := p.WaitReady(within(t, 100*time.Millisecond)); !errors.Is(err, ErrNotReady) {
		t.Errorf("a process that says nothing: %v", err)
	}
	if _, err := Start(Config{Path: "/no/such/program", Log: NewLog(nil)}); err == nil {
		t.Error("a missing program was started")
	}
}

// A server that has talked for hours is still found, although the line that says
// where it listens is no longer kept.
func TestReadyWithoutItsLine(t *testing.T) {
	p := start(t, "chatty")
	url, err := p.WaitReady(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.log.Wait(within(t, time.Minute), maxLines, regexp.MustCompile("quiet")); err != nil {
		t.Fatal(err)
	}
	if again, err := p.WaitReady(within(t, 30*time.Second)); err != nil || again != url {
		t.Errorf("%q, %v, want %q", again, err, url)
	}
}

func TestCloseKillsTheGroup(t *testing.T) {
	p := start(t, "grandchild")
	line, err := p.log.Wait(within(t, 30*time.Second), 0, regexp.MustCompile(`grandchild (\d+)`))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Fields(line.Text)[1])
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	// The orphan is reaped by init, or by nobody in a container: a zombie is dead too.
	for deadline := time.Now().Add(30 * time.Second); alive(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("process %d outlived the group", pid)
		}
	}
}

func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return syscall.Kill(pid, 0) == nil
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func TestStubbornProcessIsKilled(t *testing.T) {
	p := start(t, "stubborn")
	if _, err := p.WaitReady(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	p.Close()
	if exit, ended := p.Exited(); !ended || exit.Signal != syscall.SIGKILL {
		t.Errorf("exit %v %t", exit, ended)
	}
}

func TestSupervisorRestarts(t *testing.T) {
	s, err := Supervise(config("serve"), 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	first, err := s.WaitReady(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	// Behind the supervisor's back: a crash.
	crashed := s.Current()
	if err := crashed.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-crashed.Done()
	second, err := s.WaitReady(within(t, 30*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Errorf("the new process has the address of the old one, %s", first)
	}
	if err := s.Current().Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, err := s.WaitReady(within(t, 30*time.Second)); !errors.Is(err, ErrExited) {
		t.Errorf("after the last restart: %v", err)
	}
	if d := s.Deaths(); len(d) != 2 || s.Alive() {
		t.Errorf("deaths %v, alive %t", d, s.Alive())
	}
}

func TestSupervisorObeys(t *testing.T) {
	s, err := Supervise(config("serve"), 5)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.WaitReady(within(t, 30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit, err := s.Current().Wait(within(t, 30*time.Second)); err != nil || exit.Code != 0 {
		t.Errorf("%v %v", exit, err)
	}
	<-s.ended
	if len(s.Deaths()) != 0 || s.Alive() {
		t.Errorf("a commanded end counts as a death: %v", s.Deaths())
	}
}

func TestLogPositions(t *testing.T) {
	l := NewLog(nil)
	w := lineWriter{log: l}
	for _, chunk := range []string{"one\ntw", "o\r\n", "\nthree"} {
		if _, err := w.Write([]byte(chunk)); err != nil {
			t.Fatal(err)
		}
	}
	w.flush()
	if got := l.TailBefore(3, 2); got != "two\n\n" {
		t.Errorf("before the last line %q", got)
	}
	if got := l.Tail(10); got != "one\ntwo\n\nthree\n" {
		t.Errorf("lines %q", got)
	}
	if _, err := l.Wait(within(t, 50*time.Millisecond), 1, regexp.MustCompile("^one$")); err == nil {
		t.Error("a line before the position was found")
	}
	long := strings.Repeat("x", maxLineBytes+10)
	_, _ = w.Write([]byte(long + "\n"))
	if got := l.Since(l.Len() - 1)[0].Text; len(got) != maxLineBytes {
		t.Errorf("a line of %d bytes was kept", len(got))
	}
	for range maxLines {
		l.add("y")
	}
	if l.Len() != maxLines+5 || len(l.Since(0)) > maxLines {
		t.Errorf("%d lines, %d kept", l.Len(), len(l.Since(0)))
	}
}

// gone waits until no process has the number that a line names.
func gone(t *testing.T, line string) {
	t.Helper()
	pid, err := strconv.Atoi(strings.Fields(line)[1])
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); syscall.Kill(pid, 0) == nil && !zombie(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// zombie says whether a process has ended and only its parent has not noticed.
func zombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(text), ") ")
	return err == nil && strings.HasPrefix(state, "Z")
}

// A harness that is killed cannot clean up. What its servers have started must
// end all the same.
func TestNothingOutlivesTheHarness(t *testing.T) {
	for _, mode := range []string{"harness", "harness of daemon"} {
		t.Run(mode, func(t *testing.T) { outlivesTheHarness(t, mode) })
	}
}

func outlivesTheHarness(t *testing.T, mode string) {
	if mode != "harness" && runtime.GOOS != "linux" {
		t.Skip("daemons are found in /proc")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"="+mode)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	word := make([]byte, 100)
	n, err := out.Read(word)
	if err != nil || !strings.HasPrefix(string(word), "grandchild ") {
		t.Fatalf("%q, %v", word[:n], err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	gone(t, string(word[:n]))
}

// What a process leaves behind when it ends by itself does not stay.
func TestNothingOutlivesTheProcess(t *testing.T) {
	p := start(t, "leaves")
	if exit, err := p.Wait(within(t, 30*time.Second)); err != nil || exit.Code != 0 {
		t.Fatalf("exit %v, %v", exit, err)
	}
	gone(t, p.log.Tail(1))
}

// A daemon leaves the group of the server that started it, and ends with it all the
// same, with our environment or without it.
func TestDaemonsEnd(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("daemons are found in /proc")
	}
	for _, mode := range []string{"daemon", "bare daemon", "headless daemon"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, mode)
			line, err := p.log.Wait(within(t, 30*time.Second), 0, regexp.MustCompile("grandchild"))
			if err != nil {
				t.Fatal(err)
			}
			p.Close()
			pid, _ := strconv.Atoi(strings.Fields(line.Text)[1])
			if err := syscall.Kill(pid, 0); err == nil {
				t.Errorf("daemon %d is left behind (zombie: %t)", pid, zombie(pid))
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
}

// What another process has started stays.
func TestOthersStay(t *testing.T) {
	other := start(t, "daemon")
	line, err := other.log.Wait(within(t, 30*time.Second), 0, regexp.MustCompile("grandchild"))
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "daemon")
	if _, err := p.log.Wait(within(t, 30*time.Second), 0, regexp.MustCompile("grandchild")); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if pid, _ := strconv.Atoi(strings.Fields(line.Text)[1]); !alive(pid) {
		t.Errorf("daemon %d of another process was killed", pid)
	}
	other.Close()
	gone(t, line.Text)
}

// What a script has started before it became the harness stays: it is our child, but
// not our server's.
func TestStrangersStay(t *testing.T) {
	cmd := exec.CommandContext(within(t, 30*time.Second), os.Args[0])
	cmd.Env = append(os.Environ(), helperVar+"=script")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscanf(string(out), "daemon %d\n", &pid); err != nil {
		t.Fatalf("%q: %v", out, err)
	}
	if !alive(pid) || zombie(pid) {
		t.Errorf("daemon %d of the script was killed", pid)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
}

// With servers side by side, too, the daemons of the one that ends leave no zombies,
// whether they are in a session of their own or only in a group.
func TestNoZombies(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("daemons are found in /proc")
	}
	start(t, "mute")
	for _, mode := range []string{"daemon", "bare daemon", "group"} {
		t.Run(mode, func(t *testing.T) {
			p := start(t, mode)
			line, err := p.log.Wait(within(t, 30*time.Second), 0, regexp.MustCompile("grandchild"))
			if err != nil {
				t.Fatal(err)
			}
			pid, _ := strconv.Atoi(strings.Fields(line.Text)[1])
			if mode == "bare daemon" { // nobody may kill this one but us
				_ = syscall.Kill(pid, syscall.SIGKILL)
				gone(t, line.Text)
			}
			p.Close()
			if syscall.Kill(pid, 0) == nil {
				t.Errorf("process %d is left behind (zombie: %t)", pid, zombie(pid))
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		})
	}
}

// A daemon that was about to become another program when somebody looked is found, too.
func TestLateDaemonEnds(t *testing.T) {
	start(t, "mute") // so that it is the mark that it is known by
	p := start(t, "late daemon")
	line, err := p.log.Wait(within(t, 30*time.Second), 0, regexp.MustCompile("grandchild"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(line.Text, "<nil>") {
		t.Skipf("SKIPPED, this host does not allow it: %s", line.Text)
	}
	p.Close()
	pid, _ := strconv.Atoi(strings.Fields(line.Text)[1])
	if syscall.Kill(pid, 0) == nil {
		t.Errorf("daemon %d is left behind (zombie: %t)", pid, zombie(pid))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// A signal to a group reaches the server behind a script.
func TestGroupSignal(t *testing.T) {
	cfg := config("grandchild")
	cfg.Group = true
	p, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	line, err := p.log.Wait(within(t, 30*time.Second), 0, regexp.MustCompile("grandchild"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(within(t, 30*time.Second)); err != nil || exit.Signal != syscall.SIGTERM {
		t.Errorf("exit %v, %v", exit, err)
	}
	gone(t, line.Text)
}

// The first thread of a program is the one that init runs on, if it says so.
func init() {
	if os.Getenv(helperVar) == "headless" {
		runtime.LockOSThread()
	}
}

// loseHead ends the first thread of a process whose others go on. It looks like one that
// has ended and that its parent has yet to wait for, which is impossible.
func loseHead() { _, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0) }
