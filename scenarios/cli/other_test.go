package cli

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ds4/faults/disk"
	"ds4/reports"
)

// otherWord makes the test binary a server that is not ds4; otherServer is the
// name of that program in scripts.
const (
	otherWord   = "__other"
	otherServer = "otherserver"
)

// benchVar makes the test binary ds4bench.
const benchVar = "DS4_CLI_TEST_BENCH"

// serveOther answers every question alike. A question with take-for-ever in it takes
// for ever, so that somebody can be killed meanwhile. With a third word it starts
// only once in its folder.
func serveOther(args []string) {
	switch len(args) {
	case 1: // the daemon that otherCommand starts
		_, _ = syscall.Setsid()
		for { // an empty select would be found to be a deadlock in a program without cgo
			time.Sleep(time.Hour)
		}
	case 2:
	case 3:
		once := filepath.Join(args[1], args[2])
		_, err := os.Stat(once)
		if err == nil || os.MkdirAll(args[1], 0o700) != nil || os.WriteFile(once, nil, 0o600) != nil {
			fmt.Println("not again")
			os.Exit(1)
		}
	default:
		fmt.Println("want a port and a folder")
		os.Exit(2)
	}
	fmt.Println(http.ListenAndServe("127.0.0.1:"+args[0], otherHandler(args[1])))
	os.Exit(1)
}

func otherHandler(dir string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"data":[{"id":"m"}]}`) })
	mux.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		if strings.Contains(body.String(), "take-for-ever") {
			_ = os.WriteFile(filepath.Join(dir, "asked"), nil, 0o600)
			<-r.Context().Done()
		}
		if !strings.Contains(body.String(), `"stream":true`) {
			fmt.Fprint(w, `{"choices":[{"message":{"content":"yes"}}]}`)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		const words = 10
		for range words {
			fmt.Fprint(w, "data: {\"choices\":[{\"delta\":{\"content\":\"yes \"}}]}\n\n")
		}
		fmt.Fprint(w, "data: [DONE]\n\n")
	})
	return mux
}

// otherCommand starts the server through a shell that does not become it, with a
// daemon in a session of its own beside it.
func otherCommand() string {
	return fmt.Sprintf(`sh -c '"%[1]s" %[2]s daemon >/dev/null 2>&1 & "%[1]s" %[2]s "$$0" "$$1"; exit $?' $PORT $KV`, os.Args[0], otherWord)
}

// scenario writes a scenario file for it.
func scenario(t *testing.T, dir, id, question string) string {
	t.Helper()
	path := filepath.Join(dir, id+".yaml")
	text := "id: " + id + "\ntitle: t\nlane: process\nsteps:\n  - start: {}\n  - chat: {prompt: {text: " + question + "}}\nexpect: [{outcome: recovered}]\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// bench is ds4bench with a working directory of its own.
func benchCommand(t *testing.T, args ...string) (cmd *exec.Cmd, diag *bytes.Buffer) {
	t.Helper()
	cmd = exec.Command(os.Args[0], args...)
	cmd.Dir, diag = t.TempDir(), new(bytes.Buffer)
	cmd.Env = append(os.Environ(), benchVar+"=1", "TMPDIR="+cmd.Dir)
	cmd.Stdout, cmd.Stderr = diag, diag
	return cmd, diag
}

// others lists the servers of this test that run.
func others(t *testing.T) (pids []int) {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if text, err := os.ReadFile(name); err == nil && strings.HasPrefix(string(text), os.Args[0]+"\x00"+otherWord+"\x00") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			pids = append(pids, pid)
		}
	}
	return pids
}

const patience = time.Minute

// until polls a condition.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for: %s", patience, what)
		}
	}
}

// Whoever stops ds4bench in the middle, and however: no server is left, not even
// behind a script, and the results that there were are readable.
func TestStoppedInTheMiddle(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("looks into /proc")
	}
	files := t.TempDir()
	first, second := scenario(t, files, "first", "Well?"), scenario(t, files, "second", "take-for-ever")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd, diag := benchCommand(t, "run", first, second, "--server-command", otherCommand(), "--out", "r.jsonl")
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				if t.Failed() {
					t.Log(diag.String())
				}
			})
			until(t, "the slow question is asked", func() bool {
				asked, _ := filepath.Glob(filepath.Join(cmd.Dir, "ds4bench-*", "second-1", "kv", "asked"))
				return len(asked) > 0
			})
			until(t, "server and daemon run", func() bool { return len(others(t)) >= 2 })
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait()
			until(t, "the server ends", func() bool { return len(others(t)) == 0 })
			f, err := reports.ReadFile(filepath.Join(cmd.Dir, "r.jsonl"))
			if err != nil || len(f.Results()) != 1 || f.Results()[0].Verdict != reports.Pass {
				t.Fatalf("results %+v, %v", f, err)
			}
			if sig == syscall.SIGKILL {
				return
			}
			if code := cmd.ProcessState.ExitCode(); code != ExitInconclusive || !strings.Contains(diag.String(), "stopped early") || !f.Runs[0].End.Interrupted {
				t.Errorf("exit %d, said %q, end %+v", code, diag.String(), f.Runs[0].End)
			}
		})
	}
}

// Where there is no other place either, nothing claims that there are results.
func TestResultsNowhere(t *testing.T) {
	r, err := openResults(filepath.Join(t.TempDir(), "r.jsonl"), reports.Run{Command: "run"})
	if err != nil {
		t.Fatal(err)
	}
	if want := "results in " + r.path; r.place() != want {
		t.Errorf("%q, want %q", r.place(), want)
	}
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "absent"))
	_ = r.file.Close() // every write fails
	res := result(reports.Pass)
	if err := r.add(&res); err == nil || strings.Contains(r.place(), "results in") {
		t.Errorf("%q, %v", r.place(), err)
	}
}

// A disk that fills up under the results file costs no result.
func TestResultsOnAFullDisk(t *testing.T) {
	if err := disk.Probe(t.Context(), disk.Volumes); err != nil {
		t.Skip(err)
	}
	at := t.TempDir()
	v, err := disk.NewVolume(t.Context(), at, disk.MinVolumeBytes)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	out := filepath.Join(v.Dir(), "r.jsonl")
	t.Setenv("TMPDIR", t.TempDir())
	r, err := openResults(out, reports.Run{Command: "run"})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	r.warn = &said
	add := func() {
		res := result(reports.Pass)
		if err := r.add(&res); err != nil {
			t.Fatal(err)
		}
	}
	add()
	if err := v.Fill(0); err != nil {
		t.Fatal(err)
	}
	const more = 100 // beyond the page that the file has
	for range more {
		add()
	}
	err = r.close(outputFlags{}, false)
	var exit *exitError
	if !errors.As(err, &exit) || exit.code != ExitInconclusive || !regexp.MustCompile(`r\.jsonl: .*no space left on device; all results are in `).MatchString(err.Error()) {
		t.Errorf("said %v", err)
	}
	if !strings.Contains(said.String(), r.path) || r.path == out {
		t.Errorf("said %q, the file is %s", said.String(), r.path)
	}
	f, err := reports.ReadFile(r.path)
	if err != nil || len(f.Results()) != 1+more || f.Runs[0].End == nil {
		t.Errorf("%d results, %v", len(f.Results()), err)
	}
}

// A target that is not there proves nothing; one that goes away in the middle of
// a scenario has failed it, and proves nothing in the next.
func TestTargetDies(t *testing.T) {
	dir := t.TempDir()
	srv := httptest.NewServer(otherHandler(dir))
	defer srv.Close()
	files := t.TempDir()
	cmd, diag := benchCommand(t, "run", scenario(t, files, "first", "Well?"), scenario(t, files, "second", "take-for-ever"), scenario(t, files, "third", "Well?"),
		"--target", srv.URL, "--out", "r.jsonl")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, "the slow question is asked", func() bool { _, err := os.Stat(filepath.Join(dir, "asked")); return err == nil })
	_ = srv.Listener.Close()
	srv.CloseClientConnections()
	_ = cmd.Wait()
	f, err := reports.ReadFile(filepath.Join(cmd.Dir, "r.jsonl"))
	if err != nil || cmd.ProcessState.ExitCode() != ExitFail || len(f.Results()) != 3 {
		t.Fatalf("exit %d, %v\n%s", cmd.ProcessState.ExitCode(), err, diag.String())
	}
	for i, want := range []reports.Verdict{reports.Pass, reports.Fail, reports.Inconclusive} {
		if got := f.Results()[i]; got.Verdict != want {
			t.Errorf("%s: %s %v %s", got.Scenario, got.Verdict, got.Failures, got.Reason)
		}
	}
	if got := f.Results()[2].Reason; !strings.Contains(got, "the target "+srv.URL+" does not answer") {
		t.Errorf("the reason is %q", got)
	}
}
