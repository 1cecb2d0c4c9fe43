// Package browser drives a headless Chromium for tests of what ds4 and ds4bench
// show to people: the report page and the page of the server.
//
// It promises a browser that takes nothing from the machine it runs on and leaves
// nothing behind: a profile of its own, no background traffic, and an end with the
// test. It speaks the DevTools protocol over two pipes, so that it needs neither a
// port nor a library. It is for tests only; nothing that ships imports it.
package browser

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"
)

// Variable names the environment variable that tests in a browser need: the path
// of a Chromium. They take a while, and not every machine has one.
const Variable = "DS4_BROWSER"

// timeout bounds one command and one wait. Machines that run CI are slow at times.
const timeout = 60 * time.Second

// Browser is a running Chromium.
type Browser struct {
	t    testing.TB
	cmd  *exec.Cmd
	in   io.WriteCloser
	done chan struct{} // closed when nothing more comes from the browser

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	pages   map[string]*Page // by session
	err     error
}

// reply is the answer to a command.
type reply struct {
	result json.RawMessage
	err    error
}

// command is what we send.
type command struct {
	ID      int    `json:"id"`
	Session string `json:"sessionId,omitempty"`
	Method  string `json:"method"`
	Params  any    `json:"params,omitempty"`
}

// message is what the browser sends: an answer, which has an ID, or an event.
type message struct {
	ID      int             `json:"id"`
	Session string          `json:"sessionId"`
	Method  string          `json:"method"`
	Params  json.RawMessage `json:"params"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error"`
}

// Start starts the browser that Variable names, and skips the test if it names
// none. The browser ends with the test.
func Start(t testing.TB) *Browser {
	t.Helper()
	path := os.Getenv(Variable)
	if path == "" {
		t.Skipf("needs a browser: set %s to the path of a Chromium", Variable)
	}
	b, err := start(t, path)
	if err != nil {
		t.Fatalf("browser: %v", err)
	}
	t.Cleanup(b.close)
	return b
}

func start(t testing.TB, path string) (*Browser, error) {
	fromUs, toBrowser, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromBrowser, toUs, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(path,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--force-color-profile=srgb",
		"--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{fromUs, toUs} // descriptors 3 and 4
	cmd.WaitDelay = timeout
	err = cmd.Start()
	fromUs.Close()
	toUs.Close()
	if err != nil {
		return nil, err
	}
	b := &Browser{t: t, cmd: cmd, in: toBrowser, done: make(chan struct{}), waiting: make(map[int]chan reply), pages: make(map[string]*Page)}
	go b.read(fromBrowser)
	return b, nil
}

// close asks the browser to end, and makes it if it does not: its helper processes
// follow the first one.
func (b *Browser) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = b.call(ctx, "", "Browser.close", nil, nil)
	_ = b.in.Close()
	select {
	case <-b.done:
	case <-ctx.Done():
		_ = b.cmd.Process.Kill()
		<-b.done
	}
	_ = b.cmd.Wait()
}

// read takes in answers and events until the browser ends.
func (b *Browser) read(r io.ReadCloser) {
	defer close(b.done)
	defer r.Close()
	in := bufio.NewReader(r)
	for {
		data, err := in.ReadBytes(0)
		if err != nil {
			b.fail(fmt.Errorf("the browser ended: %w", err))
			return
		}
		var m message
		if err := json.Unmarshal(data[:len(data)-1], &m); err != nil {
			b.fail(err)
			return
		}
		b.take(m)
	}
}

// take hands an answer to who waits for it, and an event to its page.
func (b *Browser) take(m message) {
	b.mu.Lock()
	page := b.pages[m.Session]
	waiting := b.waiting[m.ID]
	delete(b.waiting, m.ID)
	b.mu.Unlock()
	switch {
	case m.ID != 0 && waiting != nil:
		var err error
		if m.Error != nil {
			err = errors.New(m.Error.Message)
		}
		waiting <- reply{m.Result, err}
	case m.Method != "" && page != nil:
		page.event(m.Method, m.Params)
	}
}

func (b *Browser) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err = err
	for id, c := range b.waiting {
		c <- reply{err: err}
		delete(b.waiting, id)
	}
}

// call sends a command and waits for its answer.
func (b *Browser) call(ctx context.Context, session, method string, params, result any) error {
	c := make(chan reply, 1)
	b.mu.Lock()
	if b.err != nil {
		defer b.mu.Unlock()
		return b.err
	}
	b.next++
	data, err := json.Marshal(command{ID: b.next, Session: session, Method: method, Params: params})
	if err == nil {
		b.waiting[b.next] = c
		_, err = b.in.Write(append(data, 0))
	}
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	select {
	case r := <-c:
		if r.err != nil {
			return fmt.Errorf("%s: %w", method, r.err)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(r.result, result)
	case <-ctx.Done():
		return fmt.Errorf("%s: no answer: %w", method, ctx.Err())
	}
}
