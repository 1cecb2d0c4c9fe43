package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ds4/runtime/scheduler"
)

// The tests of this file run on a clock that only moves when everybody waits
// (testing/synctest), over connections in memory, with the real limits.

// pipes is a listener whose connections are synchronous pipes: a byte leaves when the
// other side takes it.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.closed:
	default:
		close(p.closed)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// inBubble runs f with a served server on a fake clock.
func inBubble(t *testing.T, sched *fakeScheduler, f func(t *testing.T, dial func() net.Conn)) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestServer(t, sched, func(c *Config) { c.Now = time.Now })
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		f(t, l.dial)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

const chatHead = "POST /v1/chat/completions HTTP/1.1\r\nHost: ds4\r\n"

func chatBody(stream bool) string {
	if stream {
		return `{"stream":true,` + hello + `}`
	}
	return `{` + hello + `}`
}

// post is a whole chat request.
func post(stream bool) string {
	body := chatBody(stream)
	return chatHead + "Content-Length: " + itoa(len(body)) + "\r\n\r\n" + body
}

// TestKeepalive: headers leave at once, and a silent scheduler does not make the
// stream silent, neither before the first text nor after it.
func TestKeepalive(t *testing.T) {
	slow := func(ctx context.Context, _ *scheduler.Request) (<-chan scheduler.Event, error) {
		ch := make(chan scheduler.Event)
		go func() {
			defer close(ch)
			for _, step := range []struct {
				after time.Duration
				event scheduler.Event
			}{
				{4 * time.Second, progress(1, 4)}, // progress alone sends nothing
				{13 * time.Second, text("a")},
				{time.Second, text("b")},
				{11 * time.Second, done("stop")},
			} {
				time.Sleep(step.after)
				select {
				case ch <- step.event:
				case <-ctx.Done():
					return
				}
			}
		}()
		return ch, nil
	}
	inBubble(t, &fakeScheduler{submit: slow}, func(t *testing.T, dial func() net.Conn) {
		conn := dial()
		defer conn.Close()
		begin := time.Now()
		go io.WriteString(conn, post(true))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("headers after %v", took)
		}
		var got []string
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			line := lines.Text()
			switch {
			case line == "":
				continue
			case strings.Contains(line, `"role"`):
				line = "role"
			case strings.Contains(line, `"content":"a"`):
				line = "a"
			case strings.Contains(line, `"content":"b"`):
				line = "b"
			case strings.Contains(line, `"finish_reason":"stop"`):
				line = "stop"
			}
			got = append(got, time.Since(begin).String()+" "+line)
		}
		want := []string{
			"5s : prefill", "10s : prefill", "15s : prefill", "17s role", "17s a", "18s b",
			"23s : decode", "28s : decode", "29s stop", "29s data: [DONE]",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// untilCancelled submits by saying nothing until the request's context ends, and
// tells when that was.
func untilCancelled() (func(context.Context, *scheduler.Request) (<-chan scheduler.Event, error), <-chan time.Time) {
	at := make(chan time.Time, 1)
	return func(ctx context.Context, _ *scheduler.Request) (<-chan scheduler.Event, error) {
		ch := make(chan scheduler.Event, 1)
		go func() {
			defer close(ch)
			<-ctx.Done()
			at <- time.Now()
			ch <- failed(context.Cause(ctx))
		}()
		return ch, nil
	}, at
}

// TestDisconnect: a client that goes away ends its request at once, streaming or not,
// whether it still waits or not.
func TestDisconnect(t *testing.T) {
	for _, stream := range []bool{false, true} {
		sched := new(fakeScheduler)
		inBubble(t, sched, func(t *testing.T, dial func() net.Conn) {
			submit, at := untilCancelled()
			sched.submit = submit
			conn := dial()
			go io.Copy(io.Discard, conn)
			if _, err := io.WriteString(conn, post(stream)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // nothing ends it before, the read deadlines neither
			left := time.Now()
			conn.Close()
			if took := (<-at).Sub(left); took != 0 {
				t.Errorf("stream %v: cancelled after %v", stream, took)
			}
		})
	}
}

// TestStalledReader: a client that stops reading is gone after the stall limit; one
// that reads slowly is not.
func TestStalledReader(t *testing.T) {
	var at chan time.Time // made inside: only the bubble's own channels let its clock move
	flood := func(ctx context.Context, _ *scheduler.Request) (<-chan scheduler.Event, error) {
		ch := make(chan scheduler.Event)
		go func() {
			defer close(ch)
			for {
				select {
				case ch <- text(strings.Repeat("x", 10_000)):
				case <-ctx.Done():
					at <- time.Now()
					return
				}
			}
		}()
		return ch, nil
	}
	inBubble(t, &fakeScheduler{submit: flood}, func(t *testing.T, dial func() net.Conn) {
		at = make(chan time.Time, 1)
		conn := dial()
		defer conn.Close()
		if _, err := io.WriteString(conn, post(true)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, writePiece)
		for range 100 { // far longer than the limit in all
			time.Sleep(DefaultWriteStall / 4)
			if _, err := conn.Read(buf); err != nil {
				t.Fatalf("a slow reader was dropped: %v", err)
			}
		}
		stopped := time.Now()
		if took := (<-at).Sub(stopped); took > DefaultWriteStall {
			t.Errorf("gone after %v", took)
		}
	})
}

// TestStalledSender: a request that stops in the middle is given up, and nothing was
// submitted. One that trickles is given up too, later.
func TestStalledSender(t *testing.T) {
	body := "Content-Length: 100000\r\n\r\n"
	tests := []struct {
		name, start string
		every       time.Duration // between further bytes, 0: none
		status      int           // 0: closed without an answer
		limit       time.Duration
	}{
		{"connection only", "", 0, 0, readStall},
		{"half the head", chatHead, 0, 0, readStall},
		{"trickling head", chatHead + "X: ", readStall / 2, 0, readStall},
		{"half the body", chatHead + body + `{"messages`, 0, http.StatusBadRequest, readStall},
		{"trickling body", chatHead + body, readStall / 2, http.StatusBadRequest, maxBodyDuration},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sched := &fakeScheduler{submit: play(done("stop"))}
			inBubble(t, sched, func(t *testing.T, dial func() net.Conn) {
				conn := dial()
				var sender sync.WaitGroup
				defer sender.Wait()
				defer conn.Close() // ends the sender
				begin := time.Now()
				sender.Go(func() {
					_, err := io.WriteString(conn, tt.start)
					for err == nil && tt.every > 0 {
						time.Sleep(tt.every)
						_, err = io.WriteString(conn, "x")
					}
				})
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if took := time.Since(begin); took > tt.limit+time.Second {
					t.Errorf("given up after %v", took)
				}
				switch {
				case tt.status == 0 && err == nil:
					if resp.StatusCode != http.StatusRequestTimeout && resp.StatusCode != http.StatusBadRequest {
						t.Errorf("got %s", resp.Status)
					}
				case tt.status != 0 && err != nil:
					t.Error(err)
				case tt.status != 0 && resp.StatusCode != tt.status:
					t.Errorf("got %s, want %d", resp.Status, tt.status)
				}
				if sched.last() != nil {
					t.Error("half a request was submitted")
				}
			})
		})
	}
}

// TestUnreadBody: a request is answered and its connection closed although the body
// that it announced never comes, also where nobody wants the body.
func TestUnreadBody(t *testing.T) {
	const body = " HTTP/1.1\r\nHost: ds4\r\nContent-Length: 100\r\n\r\nabc"
	tests := []struct {
		start  string
		status int
		limit  time.Duration
	}{
		{"POST /nowhere" + body, http.StatusNotFound, leftBodyStall},
		{"POST /v1/models" + body, http.StatusMethodNotAllowed, leftBodyStall},
		{"GET /healthz" + body, http.StatusOK, leftBodyStall},
		{"GET /" + body, http.StatusOK, leftBodyStall},
		{"OPTIONS /" + body, http.StatusNoContent, leftBodyStall},
		{"POST /v1/messages HTTP/1.1\r\nHost: ds4\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\nabc",
			http.StatusUnsupportedMediaType, leftBodyStall},
		{"POST /v1/messages" + body, http.StatusBadRequest, readStall + leftBodyStall},
	}
	for _, tt := range tests {
		t.Run(strings.Fields(tt.start)[0]+strings.Fields(tt.start)[1], func(t *testing.T) {
			inBubble(t, &fakeScheduler{}, func(t *testing.T, dial func() net.Conn) {
				conn := dial()
				defer conn.Close()
				begin := time.Now()
				go io.WriteString(conn, tt.start)
				_ = conn.SetReadDeadline(begin.Add(time.Hour))
				all, err := io.ReadAll(conn)
				if took := time.Since(begin); err != nil || took > tt.limit+time.Second {
					t.Errorf("closed after %v: %v", took, err)
				}
				if want := "HTTP/1.1 " + itoa(tt.status); !strings.HasPrefix(string(all), want) {
					t.Errorf("got %.100q, want %s", all, want)
				}
			})
		})
	}
}

// TestShutdownTellsClients: a stream that runs gets its error event, a request that
// waits its status, and what does not end is cut off when the time is up.
func TestShutdownTellsClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		sched := &fakeScheduler{
			submit: func(ctx context.Context, r *scheduler.Request) (<-chan scheduler.Event, error) {
				ch := make(chan scheduler.Event, 1)
				go func() {
					defer close(ch)
					if r.MaxTokens == 1 { // the one that does not listen
						<-ctx.Done()
						return
					}
					<-stop
					ch <- failed(scheduler.ErrShuttingDown)
				}()
				return ch, nil
			},
			down: func(context.Context) error { close(stop); return nil },
		}
		s := newTestServer(t, sched, func(c *Config) { c.Now = time.Now })
		l := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		served := make(chan error, 1)
		go func() { served <- s.Serve(l) }()
		ask := func(request string) <-chan string {
			conn := l.dial()
			answer := make(chan string, 1)
			go func() {
				defer conn.Close()
				go io.WriteString(conn, request)
				all, _ := io.ReadAll(conn)
				answer <- string(all)
			}()
			return answer
		}
		stubborn := `{"max_tokens":1,` + hello + `}`
		streamed, waiting := ask(post(true)), ask(post(false))
		deaf := ask(chatHead + "Content-Length: " + itoa(len(stubborn)) + "\r\n\r\n" + stubborn)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		begin := time.Now()
		if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("shutdown: %v", err)
		}
		if took := time.Since(begin); took > 21*time.Second {
			t.Errorf("shutdown took %v", took)
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if got := <-streamed; !strings.Contains(got, "event: error\ndata: {\"error\":{\"message\":\"server shutting down\"") {
			t.Errorf("stream got %q", got)
		}
		if got := <-waiting; !strings.HasPrefix(got, "HTTP/1.1 503 ") || !strings.Contains(got, "Retry-After: 1\r\n") {
			t.Errorf("waiting request got %q", got)
		}
		if got := <-deaf; got != "" {
			t.Errorf("the cut off request got %q", got)
		}
	})
}
