package cli

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ds4/runtime/server"
)

// TestExitCodes goes through the table of docs/design.md for what ends at once.
// A mistake in the command line is told in two lines, with where to read on.
func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing, junk, empty := filepath.Join(dir, "missing"), write("junk", []byte("junk\n")), write("empty", nil)
	lock, err := server.AcquireInstanceLock(filepath.Join(dir, "taken"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)

	for _, c := range []struct {
		code int
		args string // separated by blanks
		says string // in what goes to standard error
		env  string
	}{
		{exitOK, "version", "", ""},
		{exitOK, "serve --help", "", ""},
		{exitOK, "serve --print-config", "", ""},
		{exitOK, "tokenize x", "", ""},
		{exitOK, "model info", "", ""},

		{exitFailure, "serve --ctx 1000000 --memory-mb 1", "does not fit", ""},
		{exitFailure, "serve --ctx 256 --port " + port, "address already in use", ""},
		{exitUsage, "logits --tokens-file " + write("strange", []byte("[1,99999999]")) + " -o " + dir, "element 1: 99999999 is no token of the model", ""},
		{exitFailure, "logits --tokens-file " + write("ids", []byte("[1,2]")) + " -o " + dir, "is a directory", ""},
		{exitFailure, "model synth -o " + dir, "is a directory", ""},
		{exitFailure, "kv dump " + junk, "", ""},

		{exitUsage, "", "no command given", ""},
		{exitUsage, "srve", "unknown command: srve (did you mean serve?)\nsee ds4 --help\n", ""},
		{exitUsage, "kv", "no command given", ""},
		{exitUsage, "kv lss", "unknown command: kv lss (did you mean ls?)\nsee ds4 kv --help\n", ""},
		{exitUsage, "model", "no command given", ""},
		{exitUsage, "serve --port http", "--port", ""},
		{exitUsage, "serve --config " + missing, missing, ""},
		{exitUsage, "serve --config " + junk, junk, ""},
		{exitUsage, "serve", "DS4_CTX", "DS4_CTX=many"},
		{exitUsage, "serve --chdir " + missing, "--chdir: ", ""},
		{exitUsage, "serve --api-key-file " + missing, missing, ""},
		{exitUsage, "serve --api-key-file " + empty, "no key in it", ""},
		{exitUsage, "serve --backend metal", "not part of this program", ""},
		{exitUsage, "serve --fault kv.fsync=eio", "DS4_ENABLE_FAULTS", ""},
		{exitUsage, "serve", "another ds4", "DS4_LOCK_FILE=" + filepath.Join(dir, "taken")},
		{exitUsage, "serve -m " + missing, missing, ""},
		{exitUsage, "serve -m " + junk, junk, ""},
		{exitUsage, "run -p x -m " + missing, missing, ""},
		{exitUsage, "chat -m " + junk, junk, ""},
		{exitUsage, "model info -m " + dir, dir, ""},
		{exitUsage, "tokenize -m " + empty + " x", empty, ""},
		{exitUsage, "tokenize --text-file " + missing, missing, ""},
		{exitUsage, "run", "the prompt is empty", ""},
		{exitUsage, "logits -o x --tokens-file " + missing, missing, ""},
		{exitUsage, "logits -o x --tokens-file " + junk, junk, ""},
		{exitUsage, "kv ls", "no folder", ""},
		{exitUsage, "kv ls " + missing, missing, ""},
		{exitUsage, "kv dump " + missing, missing, ""},
		{exitUsage, "kv purge --all " + missing, missing, ""},
		{exitUsage, "kv ls -m " + junk + " " + dir, junk, ""},
	} {
		var out, errs bytes.Buffer
		std := Streams{In: strings.NewReader(""), Out: &out, Err: &errs, Environ: []string{"DS4_LOCK_FILE=" + filepath.Join(dir, "lock"), c.env}}
		code := Main(strings.Fields(c.args), std)
		if code != c.code || !strings.Contains(errs.String(), c.says) {
			t.Errorf("ds4 %s: exit code %d, want %d with %q; it says\n%s", c.args, code, c.code, c.says, errs.String())
		}
		if code == exitUsage && out.Len() > 0 {
			t.Errorf("ds4 %s: on standard output\n%s", c.args, out.String())
		}
	}
}

// TestKernelsThatAreNotThere: DS4_CPU is a setting, and a wrong one is the user's.
func TestKernelsThatAreNotThere(t *testing.T) {
	t.Setenv("DS4_CPU", "abacus")
	ids := filepath.Join(t.TempDir(), "ids")
	if err := os.WriteFile(ids, []byte("[1]"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"model info", "serve --ctx 256", "run -p x", "logits -o x --tokens-file " + ids} {
		var errs bytes.Buffer
		std := Streams{In: strings.NewReader(""), Out: io.Discard, Err: &errs, Environ: []string{"DS4_LOCK_FILE=" + filepath.Join(t.TempDir(), "lock")}}
		if code := Main(strings.Fields(args), std); code != exitUsage || !strings.Contains(errs.String(), "DS4_CPU=abacus") {
			t.Errorf("ds4 %s: exit code %d\n%s", args, code, errs.String())
		}
	}
}

// TestMistakesAreShort: of every command, an option and an operand that it does
// not know are answered with two lines.
func TestMistakesAreShort(t *testing.T) {
	a := &app{Streams: Streams{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}}
	commands := 0
	for _, top := range a.rootCommand().Commands() {
		list := top.Commands()
		if len(list) == 0 {
			list = append(list, top)
		}
		for _, cmd := range list {
			commands++
			words := strings.Fields(cmd.CommandPath())[1:]
			for says, more := range map[string][]string{"unknown option: --no-such": {"--no-such"}, "unexpected argument: c": {"a", "b", "c"}} {
				var errs bytes.Buffer
				code := Main(append(words, more...), Streams{In: strings.NewReader(""), Out: io.Discard, Err: &errs})
				first, _, _ := strings.Cut(says, ":")
				want := "\nsee " + cmd.CommandPath() + " --help\n"
				if got := errs.String(); code != exitUsage || !strings.HasPrefix(got, first) || !strings.HasSuffix(got, want) || strings.Count(got, "\n") != 2 {
					t.Errorf("ds4 %v %v: exit code %d\n%s", words, more, code, got)
				}
			}
		}
	}
	if commands < 12 {
		t.Errorf("%d commands: the walk is broken", commands)
	}
}

// process is ds4 as a process of its own: some codes are those of signals.
type process struct {
	*exec.Cmd
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.String()
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "ds4") // by its name the test binary knows what to be
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: exec.Command(link, args...)}
	p.Env = append(os.Environ(), "DS4_ENABLE_FAULTS=1", "DS4_LOCK_FILE="+filepath.Join(t.TempDir(), "lock"))
	p.Stdout, p.Stderr = p, p
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Process.Kill(); p.Wait() })
	return p
}

// await waits for what the process says and returns what stands behind it in its line.
func (p *process) await(t *testing.T, text string) string {
	t.Helper()
	for end := time.Now().Add(scriptDeadline); ; time.Sleep(10 * time.Millisecond) {
		if _, rest, ok := strings.Cut(p.said(), text); ok {
			if line, _, whole := strings.Cut(rest, "\n"); whole {
				return strings.TrimSpace(line)
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%q is not said within %v:\n%s", text, scriptDeadline, p.said())
		}
	}
}

func (p *process) exits(t *testing.T, want int) {
	t.Helper()
	timer := time.AfterFunc(scriptDeadline, func() { p.Process.Kill() })
	defer timer.Stop()
	p.Wait()
	if code := p.ProcessState.ExitCode(); code != want {
		t.Errorf("%v: exit code %d, want %d\n%s", p.Args, code, want, p.said())
	}
}

// TestExitCodesOfSignals: the first signal ends a server in good order, a second
// one at once; one ends an answer at the terminal.
func TestExitCodesOfSignals(t *testing.T) {
	served := startProcess(t, "serve", "--ctx", "512", "--port", "0")
	served.await(t, "listening on ")
	served.Process.Signal(syscall.SIGTERM)
	served.exits(t, exitOK)

	stuck := startProcess(t, "serve", "--ctx", "512", "--port", "0", "--fault", "prefill.chunk=hang")
	url := stuck.await(t, "listening on ")
	go func() { // no answer comes
		if resp, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(oneQuestion)); err == nil {
			resp.Body.Close()
		}
	}()
	stuck.await(t, "fault fired rule")
	stuck.Process.Signal(syscall.SIGINT)
	stuck.await(t, "shutting down")
	stuck.Process.Signal(syscall.SIGINT)
	stuck.exits(t, exitInterrupted)

	talk := startProcess(t, "run", "-p", "Who are you?", "--ctx", "512", "--fault", "decode.step=delay(2s):every=1")
	talk.await(t, "fault fired rule")
	talk.Process.Signal(syscall.SIGINT)
	talk.exits(t, exitInterrupted)
}

const oneQuestion = `{"messages":[{"role":"user","content":"Who are you?"}],"max_tokens":4}`

// TestExitCodeForRestart: a device that nothing cures asks for a new process.
func TestExitCodeForRestart(t *testing.T) {
	lost := startProcess(t, "serve", "--ctx", "512", "--port", "0", "--device-failure-exit", "1", "--fault", "device.lost=err(gone):every=1")
	resp, err := http.Post(lost.await(t, "listening on ")+"/v1/chat/completions", "application/json", strings.NewReader(oneQuestion))
	if err == nil {
		resp.Body.Close()
	}
	lost.exits(t, exitRestart)
}
