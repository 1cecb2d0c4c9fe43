package server

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"ds4/runtime/scheduler"
)

// TestBodiesTogether: bodies that are being read share a budget. Who goes over it is
// told to come again, the others are answered, and what was taken is given back.
func TestBodiesTogether(t *testing.T) {
	sched := &fakeScheduler{submit: play(text("hi"), done(scheduler.FinishStop))}
	s := newTestServer(t, sched, nil)
	s.bodies.most = 3000
	url := listen(t, s) + "/v1/chat/completions"
	request := func(size int) string {
		const frame = `{"messages":[{"role":"user","content":""}]}`
		return strings.Replace(frame, `""`, `"`+strings.Repeat("x", size-len(frame))+`"`, 1)
	}
	// One that has sent 2000 bytes and waits.
	body, feed := io.Pipe()
	slow := make(chan int, 1)
	first := request(2500)
	go func() {
		resp, err := http.Post(url, "application/json", body)
		if err != nil {
			slow <- 0
			return
		}
		resp.Body.Close()
		slow <- resp.StatusCode
	}()
	if _, err := feed.Write([]byte(first[:2000])); err != nil {
		t.Fatal(err)
	}
	for s.bodies.used.Load() < 2000 { // until the server has read them
		runtime.Gosched()
	}
	post := func(size int) (int, string, string) {
		resp, err := http.Post(url, "application/json", strings.NewReader(request(size)))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		data, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, resp.Header.Get("Retry-After"), string(data)
	}
	if code, again, text := post(1100); code != http.StatusServiceUnavailable || again != "1" || !strings.Contains(text, "server_error") {
		t.Errorf("over the budget: %d, Retry-After %q, %s", code, again, text)
	}
	if code, _, text := post(400); code != http.StatusOK {
		t.Errorf("within the budget: %d %s", code, text)
	}
	if _, err := feed.Write([]byte(first[2000:])); err != nil {
		t.Fatal(err)
	}
	feed.Close()
	if code := <-slow; code != http.StatusOK {
		t.Errorf("the first one: %d", code)
	}
	if used := s.bodies.used.Load(); used != 0 {
		t.Errorf("%d bytes are still counted", used)
	}
	if code, _, text := post(2900); code != http.StatusOK {
		t.Errorf("afterwards: %d %s", code, text)
	}
}

// TestBodyIsCountedUntilSubmit: the budget also holds while the prompt is prepared, and
// not while the answer is made.
func TestBodyIsCountedUntilSubmit(t *testing.T) {
	var s *Server
	var during int64
	events := make(chan scheduler.Event)
	sched := &fakeScheduler{submit: func(context.Context, *scheduler.Request) (<-chan scheduler.Event, error) {
		during = s.bodies.used.Load()
		return events, nil
	}}
	s = newTestServer(t, sched, nil)
	url := listen(t, s) + "/v1/chat/completions"
	ask := []byte(`{"messages":[{"role":"user","content":"x"}],"stream":true}`)
	resp, err := http.Post(url, "application/json", bytes.NewReader(ask)) // returns with the headers
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if after := s.bodies.used.Load(); during != int64(len(ask)) || after != 0 {
		t.Errorf("%d bytes counted during Submit, %d after; the body has %d", during, after, len(ask))
	}
	events <- done(scheduler.FinishStop)
	close(events)
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Error(err)
	}
}

// TestLargeBodiesAreTrimmed: after large bodies, when there is none left, memory is
// given back, once; after small ones it is not worth it.
func TestLargeBodiesAreTrimmed(t *testing.T) {
	trimmed := make(chan struct{}, 10)
	b := bodyBudget{most: 4 * largeBodies, trim: func() { trimmed <- struct{}{} }}
	small := b.open()
	small.add(largeBodies)
	small.release()
	first, second, refused := b.open(), b.open(), b.open()
	first.add(largeBodies)
	second.add(2 * largeBodies)
	if refused.add(2 * largeBodies) {
		t.Fatal("over the limit and not refused")
	}
	refused.release()
	second.release()
	if len(trimmed) > 0 {
		t.Error("trimmed while a body is there")
	}
	first.release()
	<-trimmed
	first.release()
	b.open().release()
	if len(trimmed) > 0 {
		t.Error("trimmed more than once")
	}
}
