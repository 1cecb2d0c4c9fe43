package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestBenchVerdicts(t *testing.T) {
	var out bytes.Buffer
	b := &bench{app: &app{Streams: Streams{Out: &out}}, s: &benchSettings{}}
	b.add("start_s", "start", "%.2f s", 1.5).note("of %d", 3).atMost(2)
	b.add("restore_gbps", "restore", "%.1f GB/s", 0.123456789).atLeast(1)
	b.add("written_bytes", "written", "%.0f B", 7)
	if err := b.finish(); err != nil {
		t.Errorf("without --check: %v", err)
	}
	b.s.check = true
	var exit *exitError
	if err := b.finish(); !errors.As(err, &exit) || exit.code != exitFailure || err.Error() != "1 of 2 bounds are missed" {
		t.Errorf("with --check: %v", err)
	}
	want := "start    1.50 s    <= 2.00 s    ok       of 3"
	if got := out.String(); !strings.Contains(got, want) || !strings.Contains(got, "restore  0.1 GB/s  >= 1.0 GB/s  missed") {
		t.Errorf("printed\n%s", got)
	}
	out.Reset()
	b.s.json = true
	if err := b.finish(); !errors.As(err, &exit) {
		t.Error(err)
	}
	if got := out.String(); !strings.Contains(got, `"value": 0.123457`) || !strings.Contains(got, `"at_least": true`) {
		t.Errorf("printed\n%s", got)
	}
}

// TestBenchInterrupted: a signal ends the measurement and removes its folder.
func TestBenchInterrupted(t *testing.T) {
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	said := &firstWrite{done: make(chan struct{})}
	code := make(chan int, 1)
	go func() {
		code <- Main([]string{"kv", "bench", "--only", "start", "--segments", "100000"}, Streams{Out: said, Err: said})
	}()
	select {
	case <-said.done: // it is at work, and has taken the signal over
	case <-time.After(scriptDeadline):
		t.Fatal("no progress")
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != exitInterrupted {
		t.Errorf("exit code %d", got)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// firstWrite tells when something was written.
type firstWrite struct {
	done chan struct{}
	seen bool
}

func (w *firstWrite) Write(b []byte) (int, error) {
	if !w.seen {
		w.seen = true
		close(w.done)
	}
	return len(b), nil
}
