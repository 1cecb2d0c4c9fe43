package run

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"ds4/reports"
	"ds4/scenarios"
)

// serveOther is a server that is not ds4: it says nothing of where it listens,
// has no counters, keeps one file, and dies of SIGTERM.
func serveOther(args []string) {
	mode, port, dir := args[0], args[1], args[2]
	file := filepath.Join(dir, "state.db")
	started := strconv.FormatInt(time.Now().UnixNano(), 36)
	if mode == "dead at start" {
		fmt.Println("no such model")
		os.Exit(4)
	}
	seen := map[string]bool{} // prompts whose work is kept
	kept, err := os.ReadFile(file)
	for _, text := range strings.Split(string(kept), "\x00") {
		seen[text] = err == nil && mode != "reuses nothing"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":"the-model"}]}`)
	})
	answer := func(w http.ResponseWriter, r *http.Request, text string, pattern string) {
		if !seen[text] && (mode == "costly" || mode == "reuses nothing") {
			time.Sleep(400 * time.Millisecond) // what a prefill costs
		}
		seen[text] = mode != "reuses nothing"
		if !strings.Contains(text, "Who are") {
			_ = os.WriteFile(file, []byte(text), 0o600)
		}
		said := fmt.Sprintf("answer %08x", crc32.ChecksumIEEE([]byte(text)))
		switch {
		case mode == "wrong from file" && len(kept) > 0:
			said += "!"
		case mode == "never the same":
			said += started
		case mode == "says nothing":
			said = ""
		}
		if strings.HasPrefix(pattern, "data: ") {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		fmt.Fprintf(w, pattern, said)
	}
	mux.HandleFunc("/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			Model    string
			Think    any
			Stream   bool
			Messages []struct{ Content string }
		}
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &req)
		if req.Think != nil || req.Model != "the-model" {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, `{"error":{"message":"unknown field or model"}}`)
			return
		}
		pattern := `{"choices":[{"message":{"content":%q}}],"usage":{"prompt_tokens":9}}`
		switch {
		case req.Stream && mode == "says nothing":
			pattern = "data: [DONE]%.0s\n\n"
		case req.Stream:
			pattern = "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\ndata: [DONE]\n\n"
		}
		answer(w, r, req.Messages[len(req.Messages)-1].Content, pattern)
	})
	mux.HandleFunc("/v1/completions", func(w http.ResponseWriter, r *http.Request) {
		var req struct{ Prompt string }
		body, _ := io.ReadAll(r.Body)
		_ = json.Unmarshal(body, &req)
		answer(w, r, req.Prompt, `{"choices":[{"text":%q}]}`)
	})
	fmt.Println(http.ListenAndServe("127.0.0.1:"+port, mux))
	os.Exit(1)
}

// other is a scenario with such a server.
func other(mode, more, steps, expect string) string {
	command, err := json.Marshal([]string{os.Args[0], "other", mode, "$PORT", "$KV"})
	if err != nil {
		panic(err)
	}
	return "id: case\ntitle: a case\nlane: process\ndeadline: 60s\nserver: {command: " + string(command) + more + "}\nsteps:\n" + steps + "expect:\n" + expect
}

const (
	killAndAsk = `  - start: {}
  - chat: {as: first, prompt: {text: "What is it?"}}
  - signal: {kill: KILL}
  - start: {}
  - chat: {as: again, same: first}
`
	sameAgain = "  - outcome: recovered\n  - equal: [first, again]\n"
	reusedToo = sameAgain + "  - cached: {chat: again, at_least: 1}\n"
)

// A server that is not ours is started by its own command, and judged by its
// answers, its end and its files; what that cannot tell is said.
func TestForeignVerdicts(t *testing.T) {
	for _, c := range []struct {
		name, mode, more, steps, expect string
		verdict                         reports.Verdict
		says                            string
	}{
		{"sound", "costly", ", ready: /health", killAndAsk, reusedToo, reports.Pass, "judged by time"},
		{"whole URL", "good", ", ready: 'http://127.0.0.1:$PORT/health'", killAndAsk, sameAgain, reports.Pass, ""},
		{"completions", "good", ", api: completions", killAndAsk, sameAgain, reports.Pass, ""},
		{"no words", "says nothing", "", killAndAsk + "  - chat: {as: streamed, same: first, stream: true}\n", sameAgain, reports.Pass, ""},
		{"wrong", "wrong from file", "", killAndAsk, sameAgain, reports.Fail, "differs from that of a server without a cache"},
		{"no reuse", "reuses nothing", "", killAndAsk, reusedToo, reports.Fail, "of chat again cannot be seen"},
		{"reuse by nobody", "costly", "", "  - start: {}\n  - chat: {as: first, prompt: {text: x}}\n", "  - cached: {chat: first, at_least: 1}\n",
			reports.Inconclusive, "no earlier chat has the prompt of first"},
		{"not exact", "never the same", "", killAndAsk, "  - outcome: recovered\n", reports.Pass, "started twice on an empty directory"},
		{"equal of what is not exact", "never the same", "", killAndAsk, sameAgain, reports.Inconclusive, "which says nothing of this server"},
		{"dead", "dead at start", "", killAndAsk, sameAgain, reports.Inconclusive, "no such model"},
		{"damage", "good", "", `  - fill: {as: first, prompt: {text: "What is it?"}}
  - corrupt: {file: glob *.db, op: truncate, at: "50%"}
  - start: {}
  - chat: {as: again, same: first}
`, sameAgain, reports.Pass, ""},
		{"damage of nothing", "good", "", "  - start: {}\n  - corrupt: {file: glob *.kv, op: delete}\n", "  - outcome: recovered\n",
			reports.Inconclusive, "no file matches"},
		{"fault points", "good", "", "  - start: {faults: ['prefill.embed=err(x)']}\n", "  - outcome: recovered\n",
			reports.Skipped, "this server does not offer: fault points (start.faults)"},
		{"bad way", "good", "", killAndAsk + "  - chat: {as: cut, same: first, stream: true, via: {cut_after: 1}, retries: 1}\n",
			sameAgain + "  - retries: {chat: cut, exactly: 1}\n", reports.Pass, ""},
		{"a way without harm", "good", "", killAndAsk + "  - chat: {as: cut, same: first, stream: true, via: {reset_after: 9}}\n",
			sameAgain, reports.Inconclusive, "nothing happened on the bad way of chat cut (reset after 9 events)"},
		{"its log", "dead at start", "", "  - start: {}\n", "  - log: {matches: such}\n", reports.Inconclusive, "no such model"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			res := replay(t, "", other(c.mode, c.more, c.steps, c.expect))
			all := strings.Join(append(append(res.Failures, res.Warnings...), res.Reason), "\n")
			if res.Verdict != c.verdict || !strings.Contains(all, c.says) {
				t.Errorf("%s, want %s with %q:\n%s", res.Verdict, c.verdict, c.says, all)
			}
			if res.Verdict == reports.Pass && !strings.Contains(all, "not judged for a server that is not ds4: attempts") {
				t.Errorf("it does not say what it did not judge:\n%s", all)
			}
		})
	}
}

// What was asked for by name and cannot be run is no pass and no skip.
func TestForeignExplicit(t *testing.T) {
	s, err := scenarios.Load([]byte(strings.Replace(caseHead, "case", "x", 1)+"steps: [{start: {}}]\nexpect: [{segments: {at_least: 1}}]\n"), "x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	opt := Options{Foreign: &scenarios.Foreign{Command: []string{os.Args[0], "other", "good", "$PORT", "$KV"}},
		Scenarios: []*scenarios.Scenario{s}, WorkDir: t.TempDir(), Explicit: true}
	sum, err := Run(context.Background(), opt)
	if err != nil || sum.Inconclusive != 1 || !strings.Contains(sum.Results[0].Reason, "expect.segments; flags of ds4 (server.args.kv-disk-space-mb)") &&
		!strings.Contains(sum.Results[0].Reason, "the folders of ds4's cache (expect.segments)") {
		t.Errorf("%+v, %v", sum, err)
	}
}

// A port that somebody else has is said before anything is started.
func TestForeignPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	res := replay(t, "", other("good", fmt.Sprintf(", port: %d", port), killAndAsk, sameAgain))
	if want := fmt.Sprintf("port %d is in use by another process", port); res.Verdict != reports.Inconclusive || !strings.Contains(res.Reason, want) {
		t.Errorf("%s %q, want %q", res.Verdict, res.Reason, want)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	res = replay(t, "", other("good", fmt.Sprintf(", port: %d", port), killAndAsk, sameAgain))
	if res.Verdict != reports.Pass || !strings.Contains(strings.Join(res.Warnings, "\n"), "room for one server only") {
		t.Errorf("%s: %v %s", res.Verdict, res.Failures, res.Reason)
	}
}

func TestForeignDirectoryIsOurs(t *testing.T) {
	res := replay(t, "", other("good", ", kv_dir: /tmp", killAndAsk, sameAgain))
	if res.Verdict != reports.Inconclusive || !strings.Contains(res.Reason, "want a directory below $WORK") {
		t.Errorf("%s %q", res.Verdict, res.Reason)
	}
	if res = replay(t, "", other("good", ", kv_dir: $KV/deep", strings.Replace(killAndAsk, "signal: {kill: KILL}", "stop: {}", 1), sameAgain)); res.Verdict != reports.Pass {
		t.Errorf("%s %q %v", res.Verdict, res.Reason, res.Failures)
	}
}
