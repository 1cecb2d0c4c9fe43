package server

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ds4/runtime/scheduler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func itoa(n int) string { return strconv.Itoa(n) }

func TestNewRefuses(t *testing.T) {
	for name, cfg := range map[string]Config{
		"no scheduler": {Model: testModel},
		"no model":     {Scheduler: &fakeScheduler{}},
		"no context":   {Scheduler: &fakeScheduler{}, Model: ModelInfo{ID: "x"}},
	} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestBodyTooLarge: announced or not, a body over the limit is refused.
func TestBodyTooLarge(t *testing.T) {
	sched := &fakeScheduler{submit: play(done("stop"))}
	url := listen(t, newTestServer(t, sched, nil))
	for name, head := range map[string]string{
		"announced": "Content-Length: " + itoa(maxBodyBytes+1) + "\r\n\r\n",
		"chunked":   "Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(maxBodyBytes+1, 16) + "\r\n",
	} {
		conn := dial(t, url)
		if _, err := io.WriteString(conn, chatHead+head); err != nil {
			t.Fatal(err)
		}
		if name == "chunked" {
			spaces := []byte(strings.Repeat(" ", 1<<20))
			for sent := 0; sent <= maxBodyBytes; sent += len(spaces) {
				if _, err := conn.Write(spaces); err != nil {
					break // refused already
				}
			}
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge || !strings.Contains(string(body), "larger than 64 MiB") {
			t.Errorf("%s: %s %s", name, resp.Status, body)
		}
	}
	if sched.last() != nil {
		t.Error("submitted")
	}
}

func TestHeadersTooLarge(t *testing.T) {
	url := listen(t, newTestServer(t, &fakeScheduler{}, nil))
	conn := dial(t, url)
	go io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("y", maxHeaderBytes+8<<10)+"\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("got %s", resp.Status)
	}
}

// TestMalformedHTTP: what is no HTTP is refused, and the server lives.
func TestMalformedHTTP(t *testing.T) {
	url := listen(t, newTestServer(t, &fakeScheduler{submit: play(done("stop"))}, nil))
	for _, raw := range []string{
		"garbage\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01",
		chatHead + "Content-Length: -5\r\n\r\n", chatHead + "Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
		chatHead + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		conn := dial(t, url)
		if _, err := io.WriteString(conn, raw+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode < 400 {
				t.Errorf("%q: %s", raw, resp.Status)
			}
		}
		conn.Close()
	}
	resp, err := http.Get(url + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %s", resp.Status)
	}
}

// TestIdleConnections: a thousand connections that say nothing, or half a request, do
// not keep others from being served.
func TestIdleConnections(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{submit: play(text("x"), done("stop"))}, nil)
	url := listen(t, s)
	for i := range 1000 {
		conn := dial(t, url)
		if i%2 == 0 {
			if _, err := io.WriteString(conn, chatHead); err != nil {
				t.Fatal(err)
			}
		}
	}
	conn := dial(t, url)
	begin := time.Now()
	if _, err := io.WriteString(conn, post(false)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if took := time.Since(begin); resp.StatusCode != http.StatusOK || took > 5*time.Second {
		t.Errorf("%s after %v", resp.Status, took)
	}
	s.http.Close() // a graceful end would wait for the half requests
}

// TestConcurrentRequests gives the race detector something to look at.
func TestConcurrentRequests(t *testing.T) {
	s := newTestServer(t, &fakeScheduler{submit: play(progress(1, 1), text("x"), done("stop"))}, nil)
	url := listen(t, s)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var wg sync.WaitGroup
	ids := make(chan string, 64)
	for i := range 16 {
		wg.Go(func() {
			for j := range 4 {
				for _, path := range []string{"/metrics", "/healthz", "/v1/models"} {
					if resp, err := client.Get(url + path); err != nil {
						t.Error(err)
					} else {
						resp.Body.Close()
					}
				}
				resp, err := client.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(chatBody((i+j)%2 == 0)))
				if err != nil {
					t.Error(err)
					continue
				}
				body, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Error(err)
				}
				_, id, _ := strings.Cut(string(body), `"id":"`)
				id, _, _ = strings.Cut(id, `"`)
				ids <- id
			}
		})
	}
	wg.Wait()
	close(ids)
	seen := map[string]bool{}
	for id := range ids {
		if seen[id] || !strings.HasPrefix(id, "chatcmpl-test-") {
			t.Errorf("id %q", id)
		}
		seen[id] = true
	}
	if len(seen) != 64 {
		t.Errorf("%d ids", len(seen))
	}
}

// TestStopping: once a shutdown has begun, open connections are told so.
func TestStopping(t *testing.T) {
	sched := &fakeScheduler{submit: play(done("stop"))}
	s := newTestServer(t, sched, nil)
	s.stopping.Store(true)
	for _, tt := range []struct{ method, path, want string }{
		{http.MethodPost, "/v1/chat/completions", `"message":"server shutting down","type":"server_error"`},
		{http.MethodPost, "/v1/completions", `"message":"server shutting down","type":"server_error"`},
		{http.MethodPost, "/v1/responses", `"message":"server shutting down","type":"server_error"`},
		{http.MethodPost, "/v1/messages", `{"type":"error","error":{"message":"server shutting down","type":"overloaded_error"}}`},
		{http.MethodPost, "/v1/messages/count_tokens", `{"type":"error","error":{"message":"server shutting down","type":"overloaded_error"}}`},
		{http.MethodGet, "/healthz", `"status":"stopping"`},
	} {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, strings.NewReader(chatBody(false))))
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "1" || !strings.Contains(w.Body.String(), tt.want) {
			t.Errorf("%s: %d %v %s", tt.path, w.Code, w.Header(), w.Body)
		}
	}
	if sched.last() != nil {
		t.Error("submitted")
	}
}

// TestStartIDs: ids do not repeat after a restart.
func TestStartIDs(t *testing.T) {
	a, err := New(Config{Scheduler: &fakeScheduler{}, Model: testModel})
	if err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{Scheduler: &fakeScheduler{}, Model: testModel})
	if err != nil {
		t.Fatal(err)
	}
	q := new(chatRequest)
	if x, y := a.newAnswer(q).id, b.newAnswer(q).id; x == y || !strings.HasSuffix(x, "-1") {
		t.Errorf("%s and %s", x, y)
	}
}

// TestFromScheduler: errors that are nobody's to hear become silence, unknown ones a
// server error.
func TestFromScheduler(t *testing.T) {
	if e := fromScheduler(errors.Join(errClientGone, os.ErrClosed)); e != nil {
		t.Errorf("got %+v", e)
	}
	if e := fromScheduler(io.ErrUnexpectedEOF); e == nil || e.status != http.StatusInternalServerError || e.Type != typeServer {
		t.Errorf("got %+v", e)
	}
	f := &scheduler.FailureError{Code: scheduler.CodeDeviceUnavailable}
	if e := fromScheduler(f); e.retryAfter < time.Second {
		t.Errorf("retry after %v", e.retryAfter)
	}
}
