package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"ds4/runtime/scheduler"
)

const idleRequest = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

// swap sends a request and reads the answer; the connection stays open.
func swap(conn net.Conn, in *bufio.Reader, request string) (int, error) {
	if _, err := io.WriteString(conn, request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// TestIdleConnectionsMakeRoom: at the limit the connection that was idle for
// longest is closed, and one at work never.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	release := make(chan struct{})
	sched := &fakeScheduler{submit: func(ctx context.Context, _ *scheduler.Request) (<-chan scheduler.Event, error) {
		ch := make(chan scheduler.Event, 1)
		go func() {
			defer close(ch)
			select {
			case <-release:
				ch <- done(scheduler.FinishStop)
			case <-ctx.Done():
			}
		}()
		return ch, nil
	}}
	s := newTestServer(t, sched, func(c *Config) { c.Connections = 3 })
	url := listen(t, s)
	body := `{"messages":[{"role":"user","content":"hi"}],"stream":true}`
	work := fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", chatHead, len(body), body)
	var conns []net.Conn
	var readers []*bufio.Reader
	open := func() int {
		conn := dial(t, url)
		conns, readers = append(conns, conn), append(readers, bufio.NewReader(conn))
		return len(conns) - 1
	}
	first := open()
	if _, err := io.WriteString(conns[first], work); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the request", func() bool { return sched.last() != nil })
	for range 4 { // the third and the fourth push out the first and the second
		i := open()
		if code, err := swap(conns[i], readers[i], idleRequest); err != nil || code != http.StatusOK {
			t.Fatalf("connection %d: %d %v", i, code, err)
		}
		waitFor(t, "rest", func() bool { _, idle, _ := s.connections.count(); return idle == min(i, 2) })
	}
	for i, want := range []bool{true, false, false, true, true} {
		if i == first {
			continue
		}
		if code, err := swap(conns[i], readers[i], idleRequest); (err == nil && code == http.StatusOK) != want {
			t.Errorf("connection %d: %d %v, want open: %t", i, code, err, want)
		}
	}
	// All at work: a new one is told to come again.
	for _, i := range []int{3, 4} {
		if _, err := io.WriteString(conns[i], work); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "work", func() bool { open, idle, _ := s.connections.count(); return open == 3 && idle == 0 })
	i := open()
	resp, err := http.ReadResponse(readers[i], nil)
	if err != nil || resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%v %v", resp, err)
	}
	if _, _, refused := s.connections.count(); refused != 1 {
		t.Errorf("%d refused", refused)
	}
	close(release)
	for _, i := range []int{first, 3, 4} {
		if resp, err := http.ReadResponse(readers[i], nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("connection %d: %v %v", i, resp, err)
		}
	}
}

// TestManyIdleConnections: a thousand of them cost no answer, and nothing once
// they are gone.
func TestManyIdleConnections(t *testing.T) {
	const many = 1000
	if files := OpenFileLimit(); files < 2*many+200 {
		t.Skipf("this process may open %d files", files)
	}
	s := newTestServer(t, &fakeScheduler{}, func(c *Config) { c.Connections = many / 2 })
	url := listen(t, s)
	for i := range many {
		conn := dial(t, url)
		if i%3 == 0 { // the others do not even ask
			if _, err := io.WriteString(conn, idleRequest); err != nil && i > many/2 {
				t.Fatal(err)
			}
		}
	}
	resp, err := http.Get(url + "/healthz")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if open, _, refused := s.connections.count(); open > many/2 || refused != 0 {
		t.Errorf("%d open, %d refused", open, refused)
	}
}
