package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// events counts the events of an answer that comes in pieces of a size.
func events(answer string, piece int) (ends []int) {
	s := scanner{blank: true}
	for i := 0; i < len(answer); i += piece {
		for j := i; j < min(i+piece, len(answer)); j++ {
			if s.next(answer[j]) {
				ends = append(ends, j+1)
			}
		}
	}
	return ends
}

func TestEvents(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
	chunked := func(parts ...string) string {
		var b strings.Builder
		b.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
		for _, p := range parts {
			fmt.Fprintf(&b, "%x;ext=1\r\n%s\r\n", len(p), p)
		}
		return b.String() + "0\r\nTrailer: x\r\n\r\n"
	}
	two := "data: a\n\ndata: b\n\n"
	for name, c := range map[string]struct {
		answer string
		want   int
	}{
		"until the end":     {head + "\r\n" + two, 2},
		"length":            {head + "Content-Length: 18\r\n\r\n" + two, 2},
		"chunks":            {chunked("data: a\n\n", "data: b\n\n"), 2},
		"split chunks":      {chunked("da", "ta: a\n", "\nda", "ta: b\n\n"), 2},
		"two answers":       {chunked(two) + chunked(two), 4},
		"continue first":    {"HTTP/1.1 100 Continue\r\n\r\n" + chunked(two), 2},
		"no content":        {"HTTP/1.1 204 No Content\r\n\r\n" + chunked(two), 2},
		"CRLF":              {head + "\r\ndata: a\r\n\r\ndata: b\r\n\r\n", 2},
		"CR":                {head + "\r\ndata: a\r\rdata: b\r\r", 2},
		"comments":          {head + "\r\n: alive\n\n: alive\n\n", 2},
		"names":             {head + "\r\nevent: x\ndata: a\ndata: b\n\nid: 3\n\n\n\n", 1},
		"no stream":         {"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\ndata: a\n\n", 0},
		"end missing":       {head + "\r\ndata: a\n", 0},
		"a broken size":     {head + "Transfer-Encoding: chunked\r\n\r\nxyz\r\ndata: a\n\n", 1},
		"an empty answer":   {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + chunked(two), 2},
		"a bare line feed":  {"HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\n" + two, 2},
		"data at the start": {two, 0},
	} {
		got := events(c.answer, 1000)
		if len(got) != c.want {
			t.Errorf("%s: %d events, want %d", name, len(got), c.want)
		}
		for _, end := range got {
			if text := c.answer[:end]; !strings.HasSuffix(text, "\n") && !strings.HasSuffix(text, "\r") {
				t.Errorf("%s: an event ends after %q", name, text)
			}
		}
	}
}

func FuzzScanner(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")
	f.Fuzz(func(t *testing.T, answer string) {
		a, b := events(answer, 1<<20), events(answer, 7)
		if fmt.Sprint(a) != fmt.Sprint(b) {
			t.Errorf("events end at %v, in pieces at %v", a, b)
		}
	})
}

// streaming is a server that sends events until the client has gone, and reports
// how each request ended.
func streaming(t *testing.T, n int) (base string, ends <-chan error) {
	t.Helper()
	ch := make(chan error, 100)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != "question" {
			ch <- fmt.Errorf("body %q, %w", body, err)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range n {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				ch <- r.Context().Err()
				return
			case <-time.After(time.Millisecond):
			}
		}
		ch <- nil
	}))
	t.Cleanup(srv.Close)
	return srv.URL, ch
}

// ask reads an answer through a proxy and returns its lines with data.
func ask(t *testing.T, url string) (lines []string, err error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Post(url, "text/plain", strings.NewReader("question"))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	sc := bufio.NewScanner(resp.Body)
	for sc.Scan() {
		if sc.Text() != "" {
			lines = append(lines, sc.Text())
		}
	}
	return lines, sc.Err()
}

func start(t *testing.T, base string, rule Rule) *Proxy {
	t.Helper()
	p, err := Start(base, rule)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

const forEver = 1_000_000

// After exactly so many events the answer ends; the server sees it at once.
func TestCutAndReset(t *testing.T) {
	for _, rule := range []Rule{{Cut: 3, Times: 1}, {Reset: 3, Times: 1}} {
		base, ends := streaming(t, forEver)
		p := start(t, base, rule)
		lines, err := ask(t, p.URL())
		// A reset may overtake what was sent before it.
		if len(lines) > 3 || rule.Cut > 0 && len(lines) != 3 || err == nil || p.Hurt() != 1 {
			t.Errorf("%+v: %d events, error %v, %d hurt", rule, len(lines), err, p.Hurt())
		}
		if reset := errors.Is(err, syscall.ECONNRESET); reset != (rule.Reset > 0) {
			t.Errorf("%+v: %v", rule, err)
		}
		if err := <-ends; !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: the server's request ended with %v", rule, err)
		}
	}
}

func TestTimesAndStall(t *testing.T) {
	base, ends := streaming(t, 5)
	const pause = 200 * time.Millisecond
	p := start(t, base, Rule{StallAfter: 2, Stall: pause, Times: 1})
	for i := range 2 {
		began := time.Now()
		lines, err := ask(t, p.URL())
		if len(lines) != 5 || err != nil || <-ends != nil {
			t.Errorf("%d events, error %v", len(lines), err)
		}
		if took := time.Since(began); i == 0 && took < pause {
			t.Errorf("took %s", took)
		}
	}
	if p.Hurt() != 1 {
		t.Errorf("%d connections hurt", p.Hurt())
	}
}

func TestRate(t *testing.T) {
	base, _ := streaming(t, 3)
	p := start(t, base, Rule{Rate: 500})
	began := time.Now()
	lines, err := ask(t, p.URL())
	// Head and chunks are over 150 bytes, at 50 in each tenth of a second.
	if took := time.Since(began); len(lines) != 3 || err != nil || took < 200*time.Millisecond || p.Hurt() != 1 {
		t.Errorf("%d events after %s, error %v, %d hurt", len(lines), took, err, p.Hurt())
	}
}

// A client that has said all is not a client that has gone. Many servers do not
// know the difference, Go's among them.
func TestHalfClose(t *testing.T) {
	base, ends := streaming(t, forEver)
	p := start(t, base, Rule{HalfClose: true})
	if lines, _ := ask(t, p.URL()); len(lines) == forEver || p.Hurt() != 1 {
		t.Errorf("%d events, %d hurt", len(lines), p.Hurt())
	}
	if err := <-ends; !errors.Is(err, context.Canceled) {
		t.Errorf("the server's request ended with %v", err)
	}
}

func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := start(t, base, Rule{Cut: 1})
	if _, err := ask(t, p.URL()); err == nil || p.Hurt() != 0 {
		t.Errorf("%v, %d hurt", err, p.Hurt())
	}
}

// Close ends what is under way.
func TestClose(t *testing.T) {
	base, ends := streaming(t, forEver)
	p := start(t, base, Rule{StallAfter: 1, Stall: MaxStall})
	done := make(chan error, 1)
	go func() { _, err := ask(t, p.URL()); done <- err }()
	for p.Hurt() == 0 {
		time.Sleep(time.Millisecond)
	}
	p.Close()
	if err := <-done; err == nil {
		t.Error("the answer is complete")
	}
	<-ends
}

func TestCheck(t *testing.T) {
	for _, r := range []Rule{{}, {Cut: -1}, {Cut: 1, Reset: 1}, {StallAfter: 1}, {Stall: time.Second}, {StallAfter: 1, Stall: time.Hour},
		{Rate: 1}, {Cut: 1, Times: -1}, {HalfClose: true, Cut: 1}, {Cut: MaxEvents + 1}} {
		if err := r.Check(); !errors.Is(err, ErrRule) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for _, base := range []string{"", "ftp://x", "https://x", "http://"} {
		if _, err := Start(base, Rule{Cut: 1}); err == nil {
			t.Errorf("%q is no server", base)
		}
	}
}
