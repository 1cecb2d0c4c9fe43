package run

import (
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ds4/faults"
	"ds4/faults/disk"
	"ds4/faults/proc"
	"ds4/faults/root"
	"ds4/faults/syscalls"
)

// The test binary acts as the server under test when its first argument is that
// of a server. fakeVar says how it misbehaves; the control never has it.
const fakeVar = "DS4_RUN_TEST_FAKE"

func TestMain(m *testing.M) {
	disk.Main(os.Args[1:])
	root.Main(os.Args[1:])
	proc.Main(os.Args[1:])
	syscalls.Main(os.Args[1:])
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "serve":
			newFake(os.Args[2:]).serve()
			return
		case "other":
			serveOther(os.Args[2:])
			return
		case "tokenize":
			fakeTokenize(os.Args[len(os.Args)-1])
			return
		}
	}
	goleak.VerifyTestMain(m)
}

// fakeTokenize counts five bytes as a token.
func fakeTokenize(file string) {
	b, err := os.ReadFile(file)
	if err != nil {
		os.Exit(1)
	}
	_ = json.NewEncoder(os.Stdout).Encode(make([]int32, len(b)/5))
}

type fake struct {
	mode  string
	kv    string
	rules []string
	fired atomic.Int64
	evals atomic.Int64
	calls atomic.Int64

	scrapes atomic.Int64
}

func newFake(args []string) *fake {
	f := &fake{mode: os.Getenv(fakeVar)}
	for i := 0; i+1 < len(args); i++ {
		switch args[i] {
		case "--kv-disk-dir":
			f.kv = args[i+1]
		case "--fault":
			r, err := faults.ParseRule(args[i+1])
			if err != nil {
				os.Exit(2)
			}
			f.rules = append(f.rules, r.String())
		}
	}
	return f
}

func (f *fake) log(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "1124 03:12:50 ds4-server: "+format+"\n", args...)
}

func (f *fake) serve() {
	if len(f.rules) > 0 && os.Getenv("DS4_ENABLE_FAULTS") != "1" {
		os.Exit(2)
	}
	if f.mode == "dead at start" {
		f.log("cannot open the model")
		os.Exit(1)
	}
	if _, err := os.Stat(f.kv); err == nil && f.mode == "dead at the next start" {
		f.log("cannot open the cache")
		os.Exit(1)
	}
	for _, r := range f.rules {
		f.log("fault armed rule=%q", r)
	}
	if f.kv != "" {
		tmp, _ := filepath.Glob(filepath.Join(f.kv, "tmp", "*"))
		if f.mode != "leaves temps" {
			for _, t := range tmp {
				_ = os.Remove(t)
			}
		}
		for _, d := range []string{"tmp", "segments/aa", "quarantine"} {
			_ = os.MkdirAll(filepath.Join(f.kv, d), 0o700)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		os.Exit(1)
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	f.log("listening on http://%s", l.Addr())
	go http.Serve(l, f.mux())
	<-term
	switch f.mode {
	case "deaf":
		select {}
	case "bad exit":
		os.Exit(3)
	}
	if f.kv != "" {
		_ = os.WriteFile(filepath.Join(f.kv, "segments/aa/0.kv"), []byte("bytes"), 0o600)
		if f.mode == "leaves temps" {
			_ = os.WriteFile(filepath.Join(f.kv, "tmp/0.1.1"), []byte("bytes"), 0o600)
		}
		if f.mode == "over budget" {
			_ = os.WriteFile(filepath.Join(f.kv, "segments/aa/1.kv"), make([]byte, 2<<20), 0o600)
		}
	}
}

func (f *fake) mux() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"data":[]}`) })
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		status := "ok"
		if f.mode == "degraded" {
			status = "degraded-cache"
		}
		fmt.Fprintf(w, `{"status":%q}`, status)
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		n := f.evals.Load()
		fmt.Fprintf(w, "%s %d\n%s %g\n%s 0\n", metricPrefillTokens, n, metricPrefillSeconds, float64(n)/500, metricRestoredTokens)
		held := 7 - f.scrapes.Add(1)%2 // what is garbage now is gone at the next look
		if f.mode == "grows" {
			held += f.calls.Load()
		}
		fmt.Fprintf(w, "fake_held %d\n", held)
	})
	mux.HandleFunc("/v1/chat/completions", f.chat)
	return mux
}

func (f *fake) chat(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Messages []struct{ Content string }
	}
	body, _ := io.ReadAll(r.Body)
	_ = json.Unmarshal(body, &req)
	text := req.Messages[len(req.Messages)-1].Content
	// The probe and the warm-up of an innocent are spared: only questions about
	// the fault suffer, as with a poisoned entry.
	hurt := len(f.rules) > 0 && text != probeText
	n := f.calls.Add(1)
	fire := func() {
		if f.mode != "never fires" {
			f.log("fault fired rule=%q n=%d", f.rules[0], f.fired.Add(1))
		}
	}
	fail := func(status int, code string, retryable bool) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"error":{"message":"prefill failed","type":"server_error","code":%q,"retryable":%t,"attempt":%d,"limit":3}}`, code, retryable, n)
	}
	if f.mode == "always wrong" || f.mode == "wrong after fault" && hurt {
		text += "!"
	}
	if hurt {
		switch f.mode {
		case "refuses":
			fire()
			fail(400, "context_length_exceeded", false)
			return
		case "fails once":
			if n == 1 {
				fire()
				fail(500, "prefill_failed", true)
				return
			}
		case "loops":
			fire()
			fail(500, "prefill_failed", true)
			return
		case "hangs":
			fire()
			<-r.Context().Done()
			return
		case "dies":
			fire()
			os.Exit(9)
		case "dies once":
			if marker := filepath.Join(f.kv, "died"); os.WriteFile(marker, nil, 0o600) == nil {
				if st, err := os.Stat(marker + "2"); err != nil {
					_ = st
					_ = os.WriteFile(marker+"2", nil, 0o600)
					fire()
					os.Exit(9)
				}
			}
			fire()
		case "html error":
			fire()
			http.Error(w, "<html>oops", 500)
			return
		default:
			fire()
		}
	}
	if strings.Contains(text, "slowly") {
		time.Sleep(50 * time.Millisecond)
	}
	f.evals.Add(int64(len(text) / 5))
	f.log("chat ctx=0..1:1 prompt done 0.1 s")
	answer := fmt.Sprintf("answer %08x", crc32.ChecksumIEEE([]byte(text)))
	fmt.Fprintf(w, `{"choices":[{"message":{"content":%q},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d}}`, answer, len(text)/5)
}

func modeEnv(mode string) []string { return slices.Clip([]string{fakeVar + "=" + mode}) }
