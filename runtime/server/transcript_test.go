package server

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"ds4/runtime/chat"
	"ds4/runtime/scheduler"
)

// scripts are the ways in which the scheduler of the transcripts behaves.
var scripts = map[string]*fakeScheduler{
	"answer":   {submit: play(progress(2, 4), progress(4, 4), text("Hel"), text("lo <b>&"), done("stop"))},
	"thinking": {submit: play(reasoning("hm"), reasoning("m"), text("yes"), done("length"))},
	"silent":   {submit: play(done("stop"))},
	"prefill-failed": {submit: play(progress(2, 4), failed(&scheduler.FailureError{
		Code: scheduler.CodePrefillFailed, Retryable: true, Attempt: 1, Limit: 3, Range: "0123456789ab",
		Message: "cpu prefill failed: Metal graph embed tokens failed: Internal Error (00000001:Internal Error)",
	}))},
	"cleared": {submit: play(failed(&scheduler.FailureError{
		Code: scheduler.CodeContextCleared, Attempt: 3, Limit: 3, Range: "0123456789ab", Message: "cpu prefill failed: x",
	}))},
	"decode-failed": {submit: play(text("Hel"), failed(errors.New("cpu decode failed while extending checkpoint")))},
	"shutdown":      {submit: play(progress(2, 4), failed(scheduler.ErrShuttingDown))},
	"no-end":        {submit: play(text("Hel"))},
	"too-long":      {submit: refuse(&scheduler.ContextLengthError{PromptTokens: 40000, ContextTokens: 32768})},
	"queue-full":    {submit: refuse(scheduler.ErrQueueFull)},
	"stopping":      {submit: refuse(scheduler.ErrShuttingDown), health: scheduler.Health{State: scheduler.HealthStopping}},
	"bad":           {submit: refuse(fmt.Errorf("scheduler: %w: %w", scheduler.ErrRequest, fmt.Errorf("chat: the model has no token X, which this prompt needs: %w", chat.ErrVocabulary)))},
	"breaker": {
		submit: refuse(&scheduler.FailureError{
			Code: scheduler.CodeDeviceUnavailable, Retryable: true, Limit: 3,
			Message: "cpu is unavailable", RetryAfter: 4500 * time.Millisecond,
		}),
		health: scheduler.Health{
			State: scheduler.HealthDegradedDevice, Reasons: []string{"3 failures of the device"}, RetryAfter: 4500 * time.Millisecond,
		},
	},
	"panic": {submit: play(scheduler.Event{Kind: scheduler.EventDone})}, // a result is missing
}

// TestTranscripts replays raw requests and compares raw answers. The first lines of a
// case are the request line and headers, the body follows after a blank line.
//
//	http script=answer [cors]
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/transcripts", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "http" {
				d.Fatalf(t, "unknown command %s", d.Cmd)
			}
			name := "answer"
			d.MaybeScanArgs(t, "script", &name)
			script, ok := scripts[name]
			if !ok {
				d.Fatalf(t, "unknown script %s", name)
			}
			s := newTestServer(t, script, func(c *Config) {
				c.CORS = d.HasArg("cors")
				if d.HasArg("store") {
					c.Store = testStore{}
				}
				if d.HasArg("cache-problem") {
					c.CacheProblem = "kv cache is off: mkdir /kv: permission denied"
				}
			})
			return masked(exchange(t, listen(t, s), d.Input))
		})
	})
}

// exchange sends one request, whose body's length is filled in, and returns the answer
// with sorted headers, without the date, its chunks put together.
func exchange(t *testing.T, url, input string) string {
	t.Helper()
	head, body, _ := strings.Cut(input, "\n\n")
	lines := strings.Split(head, "\n")
	lines = append(lines, "Host: ds4", "Connection: close")
	if body != "" {
		lines = append(lines, fmt.Sprintf("Content-Length: %d", len(body)))
	}
	conn := dial(t, url)
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"+body); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: strings.Fields(lines[0])[0]})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s %s\n", resp.Proto, resp.Status)
	resp.Header.Del("Date")
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range resp.Header {
			if !yield(name) {
				return
			}
		}
	})
	for _, name := range names {
		fmt.Fprintf(&out, "%s: %s\n", name, strings.Join(resp.Header[name], ", "))
	}
	if len(resp.TransferEncoding) > 0 {
		fmt.Fprintf(&out, "Transfer-Encoding: %s\n", strings.Join(resp.TransferEncoding, ", "))
	}
	out.WriteByte('\n')
	if _, err := io.Copy(&out, resp.Body); err != nil {
		fmt.Fprintf(&out, "(cut off: %v)\n", err)
	}
	return out.String()
}

// dial connects to a server and closes the connection at the end of the test.
func dial(t testing.TB, url string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}
