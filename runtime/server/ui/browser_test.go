package ui

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ds4/reports/html/browser"
)

// program builds ds4 once for all tests of a browser.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "ds4-ui-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "ds4")
	cmd := exec.Command("go", "build", "-o", path, "ds4/cmd/ds4")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if os.Getenv(browser.Variable) != "" {
		if path, err := program(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// server is a ds4 serve with the embedded model.
type server struct {
	t    *testing.T
	cmd  *exec.Cmd
	url  string
	done chan struct{}
}

var listening = regexp.MustCompile(`listening on (http://\S+)`)

// serve starts a server on a port, 0 for any, and waits until it listens.
func serve(t *testing.T, port string, args ...string) *server {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"serve", "--port", port}, args...)...)
	cmd.Env = append(os.Environ(), "DS4_LOCK_FILE="+filepath.Join(t.TempDir(), "lock"), "DS4_ENABLE_FAULTS=1")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, cmd: cmd, done: make(chan struct{})}
	t.Cleanup(func() { s.end(syscall.SIGKILL) })
	ready := make(chan string, 1)
	go func() {
		defer close(s.done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if m := listening.FindStringSubmatch(lines.Text()); m != nil {
				ready <- m[1]
			}
		}
		_ = cmd.Wait()
	}()
	select {
	case s.url = <-ready:
	case <-s.done:
		t.Fatal("the server ended")
	case <-time.After(time.Minute):
		t.Fatal("the server does not listen")
	}
	return s
}

// end sends a signal and waits for the end of the process.
func (s *server) end(sig syscall.Signal) {
	_ = s.cmd.Process.Signal(sig)
	<-s.done
}

func (s *server) port() string {
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	return port
}

// slow makes every token take a while, so that there is something to see, and to
// stop, on any machine.
const slow = "decode.step=delay(300ms):every"

var desktop = browser.Look{Width: 1280, Height: 800}

// say sends a message through the page.
func say(p *browser.Page, text string) {
	p.Eval(`document.getElementById('text').focus()`, nil)
	p.Type(text)
	p.Press("Enter")
}

const (
	lastSaid = `[...document.querySelectorAll('.turn.assistant .said')].at(-1)?.textContent`
	figures  = `[...document.querySelectorAll('.turn.assistant')].at(-1)?.querySelector('.figures')?.textContent`
	problem  = `[...document.querySelectorAll('.turn.assistant')].at(-1)?.querySelector('.problem')?.textContent`
)

// A conversation: streamed text, figures, reuse in the second turn, sessions and
// segments that appear, in every look readable and without a complaint.
func TestBrowserChat(t *testing.T) {
	b := browser.Start(t)
	s := serve(t, "0", "--kv-disk-dir", t.TempDir(), "--kv-cache-min-tokens", "16", "--sessions", "2")
	p := b.Open(t, s.url, desktop)
	p.Wait("the state of the server", `document.querySelector('#status').textContent.trim() === 'ok'`)
	p.Wait("its sessions", `document.querySelectorAll('#sessions li[data-state=empty]').length === 2`)

	say(p, "What does strings.Cut do, and how is it different from strings.Split and from strings.SplitN?")
	p.Wait("an answer", lastSaid+`?.length > 0 && /tokens\/s/.test(`+figures+`) && !document.querySelector('.busy')`)
	say(p, "And strings.Fields? <img src=x onerror=document.title='owned'>")
	p.Wait("an answer that reuses the first turn", `document.querySelectorAll('.turn').length === 4 && /, [1-9]\d* of \d+ prompt tokens cached/.test(`+figures+`)`)
	p.Wait("a session with a conversation", `document.querySelectorAll('#sessions li[data-state=idle]').length === 1`)
	p.Wait("segments of it", `document.querySelectorAll('#chains .bar i.ok').length > 0 && /^[1-9]/.test(document.querySelector('#segments').textContent)`)
	p.Wait("an empty quarantine", `/Nothing/.test(document.querySelector('#quarantine').textContent)`)

	var got struct {
		Images int
		Title  string
		User   string
	}
	p.Eval(`({Images: document.images.length, Title: document.title, User: [...document.querySelectorAll('.turn.user .said')].at(-1).textContent})`, &got)
	if got.Images != 0 || got.Title != "ds4" || !strings.Contains(got.User, "<img") {
		t.Errorf("markup in a message was taken for markup: %+v", got)
	}
	for name, look := range map[string]browser.Look{
		"light": desktop, "dark": {Width: 1280, Height: 800, Dark: true}, "narrow": {Width: 390, Height: 844}, "narrow-dark": {Width: 390, Height: 844, Dark: true},
	} {
		p.See(look)
		for _, part := range []string{"header h1", "#status", "#log .turn.assistant", "#text", "#send", "#new", "#sessions .bar", "#budget", "#chains .bar", "#quarantine"} {
			p.Box(part)
		}
		p.CheckReadable()
		p.CheckFits()
		p.Screenshot("ui-" + name)
	}
	p.CheckQuiet(s.url)

	p.Click("#new")
	p.Wait("an empty conversation", `document.querySelectorAll('.turn').length === 0 && document.querySelector('#blank').checkVisibility()`)
}

// Text comes while it is written, thinking is folded, and an answer can be stopped.
func TestBrowserStreamsAndStops(t *testing.T) {
	b := browser.Start(t)
	s := serve(t, "0", "--fault", slow)
	p := b.Open(t, s.url, desktop)
	p.Click("#thinking")
	say(p, "Tell me about the package strings.")
	p.Wait("thoughts", `document.querySelector('.turn.assistant .thought')?.textContent.length > 0`)
	var folded bool
	p.Eval(`!document.querySelector('.turn.assistant details').open && !document.querySelector('.thought').checkVisibility()`, &folded)
	if !folded {
		t.Error("thinking is not folded")
	}
	p.Press("Escape")
	p.Wait("the end", `!document.querySelector('.busy') && `+figures+` === 'stopped'`)

	p.Click("#thinking")
	say(p, "List the functions of the package strings.")
	var lengths [2]int
	p.Wait("the first text", lastSaid+`?.length > 0`)
	p.Eval(lastSaid+`.length`, &lengths[0])
	p.Wait("more of it, as it is written", lastSaid+`.length > `+fmt.Sprint(lengths[0]))
	p.Wait("the session at work", `document.querySelector('#sessions li[data-state=decode]')`)
	p.Click("#stop")
	p.Wait("the end", `!document.querySelector('.busy') && document.querySelector('#stop').hidden && `+figures+` === 'stopped'`)
	p.Eval(lastSaid+`.length`, &lengths[1])
	if lengths[1] <= lengths[0] {
		t.Errorf("%d characters, %d when it began", lengths[1], lengths[0])
	}
	p.CheckQuiet(s.url)
}

// A server that is killed in the middle of an answer, comes back with a damaged
// cache, and what the page says of all that.
func TestBrowserServerDies(t *testing.T) {
	b := browser.Start(t)
	dir := t.TempDir()
	limit := func(p *browser.Page, tokens int) {
		p.Eval(fmt.Sprintf(`document.querySelector('#limit').value = %d`, tokens), nil)
	}
	args := []string{"--kv-disk-dir", dir, "--kv-cache-min-tokens", "16"}
	s := serve(t, "0", append(args, "--fault", slow)...)
	p := b.Open(t, s.url, desktop)
	limit(p, 8)
	say(p, "What does strings.Cut do, and how is it different from strings.Split and from strings.SplitN?")
	p.Wait("an answer that is saved", `!document.querySelector('.busy') && document.querySelectorAll('#chains .bar i.ok').length > 0`)
	limit(p, 1000)
	say(p, "And strings.Fields?")
	p.Wait("the beginning of an answer", `document.querySelectorAll('.turn').length === 4 && `+lastSaid+`.length > 0`)
	s.end(syscall.SIGKILL)
	p.Wait("the problem", `/connection broke|does not answer/.test(`+problem+`)`)
	p.Wait("the server being away", `/does not answer/.test(document.querySelector('#away').textContent) && /away/.test(document.querySelector('#status').textContent)`)
	p.CheckReadable()
	p.Screenshot("ui-away")

	damage(t, dir)
	serve(t, s.port(), args...)
	p.Wait("the server being back", `document.querySelector('#away').hidden && document.querySelector('#status').textContent.trim() === 'ok'`)
	p.Wait("what is in quarantine, and why", `/corrupt/.test(document.querySelector('#quarantine .why')?.textContent)`)
	p.Screenshot("ui-quarantine")
	p.Click(".problem button")
	p.Wait("the answer", `!document.querySelector('.problem') && !document.querySelector('.busy') && /tokens\/s/.test(`+figures+`)`)
	for _, text := range p.Problems() {
		if !strings.Contains(text, "ERR_CONNECTION") && !strings.Contains(text, "ERR_INCOMPLETE") && !strings.Contains(text, "net::") {
			t.Errorf("console: %s", text)
		}
	}
}

// damage flips a byte in the header of every segment.
func damage(t *testing.T, dir string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".kv" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[40] ^= 0xff
		n++
		return os.WriteFile(path, data, 0o600)
	})
	if err != nil || n == 0 {
		t.Fatalf("%d segments, %v", n, err)
	}
}

// A queue that is full and a server that shuts down are told as what they are.
func TestBrowserBusyServer(t *testing.T) {
	b := browser.Start(t)
	s := serve(t, "0", "--sessions", "1", "--queue", "1", "--fault", slow)
	p := b.Open(t, s.url, desktop)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// One request runs, one waits: they come from another client.
	var wait sync.WaitGroup
	defer wait.Wait()
	defer cancel()
	occupy := func() {
		wait.Go(func() {
			body := `{"messages":[{"role":"user","content":"Tell me everything."}],"max_tokens":4000,"ignore_eos":true,"stream":true}`
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", strings.NewReader(body))
			if err != nil {
				return
			}
			if resp, err := http.DefaultClient.Do(req); err == nil {
				<-ctx.Done()
				resp.Body.Close()
			}
		})
	}
	occupy()
	p.Wait("the session at work", `document.querySelector('#sessions li[data-state=decode]')`)
	occupy()
	p.Wait("a full queue", `/1 request waiting/.test(document.querySelector('#queue').textContent)`)
	p.Eval(`window.problems = []; new MutationObserver(() => window.problems.push(`+problem+`)).observe(document.querySelector('#log'), {childList: true, subtree: true, characterData: true})`, nil)
	say(p, "Hello")
	p.Wait("the refusal", `/more requests than it can queue/.test(`+problem+`) && document.querySelector('.problem button')`)
	p.Wait("how long to wait, counted down", `window.problems.some((t) => /asks to wait 1 second\./.test(t)) && !/asks to wait/.test(`+problem+`)`)
	p.CheckReadable()
	p.Screenshot("ui-busy")
	cancel()
	p.Wait("a free queue", `document.querySelector('#queue').textContent === ''`)
	p.Click(".problem button")
	p.Wait("an answer", lastSaid+`?.length > 0`)
}

// A server that shuts down in the middle of an answer says so. What it saved is used
// when it is back.
func TestBrowserShutdown(t *testing.T) {
	b := browser.Start(t)
	args := []string{"--kv-disk-dir", t.TempDir(), "--kv-cache-min-tokens", "16"}
	s := serve(t, "0", append(args, "--fault", slow)...)
	p := b.Open(t, s.url, desktop)
	say(p, "What does strings.Cut do, and how is it different from strings.Split and from strings.SplitN?")
	p.Wait("text", lastSaid+`?.length > 0`)
	s.end(syscall.SIGTERM)
	p.Wait("the reason", `/shutting down/.test(`+problem+`) && !document.querySelector('.busy')`)
	p.Wait("old news told as that", `document.querySelector('#stale').checkVisibility() && /away/.test(document.querySelector('#status').textContent)`)
	p.CheckReadable()
	p.Screenshot("ui-shutdown")
	serve(t, s.port(), args...)
	p.Wait("the server being back", `!document.querySelector('#stale').checkVisibility() && document.querySelector('#status').textContent.trim() === 'ok'`)
	p.Click(".problem button")
	p.Wait("an answer that goes on from the disk", `/[1-9]\d* from disk/.test(`+figures+`) && !document.querySelector('.problem')`)
}

// While a long prompt is read the page says how far it is, and the answer can be
// stopped.
func TestBrowserProgress(t *testing.T) {
	b := browser.Start(t)
	s := serve(t, "0", "--fault", "prefill.chunk=delay(10m)")
	p := b.Open(t, s.url, desktop)
	say(p, "What does strings.Cut do?")
	p.Wait("progress", `/^reading the prompt, \d+ of [1-9]\d* tokens$/.test(`+figures+`)`)
	p.Press("Escape")
	p.Wait("the end", `!document.querySelector('.busy') && `+figures+` === 'stopped'`)
}

// A server with an API key: the page comes without one, asks, says when the key is
// wrong, and keeps a right one for this tab only.
func TestBrowserKey(t *testing.T) {
	b := browser.Start(t)
	s := serve(t, "0", "--api-key", "right-key")
	p := b.Open(t, s.url, desktop)
	p.Wait("the question for a key", `document.querySelector('#key').open`)
	p.CheckReadable()
	p.Screenshot("ui-key")
	p.Press("Escape")
	p.Wait("no question any more", `!document.querySelector('#key').open`)
	say(p, "Hello")
	p.Wait("the question again, when a key is needed", `document.querySelector('#key').open && /wants an API key/.test(`+problem+`)`)
	enter := func(key string) {
		t.Helper()
		p.Eval(`document.querySelector('#key-text').focus()`, nil)
		p.Type(key)
		p.Press("Enter")
	}
	enter("wrong-key")
	p.Wait("the refusal", `document.querySelector('#key').open && /not right/.test(document.querySelector('#key-error').textContent)`)
	enter("right-key")
	p.Wait("the sessions", `!document.querySelector('#key').open && document.querySelectorAll('#sessions li').length > 0`)
	say(p, "What does strings.Cut do?")
	p.Wait("an answer", lastSaid+`?.length > 0 && /tokens\/s/.test(`+figures+`)`)
	var kept [2]string
	p.Eval(`[sessionStorage, localStorage].map((s) => Object.values(s).join())`, &kept)
	if kept != [2]string{"right-key", ""} {
		t.Errorf("kept for the tab and for ever: %q", kept)
	}
	for _, text := range p.Problems() {
		if !strings.Contains(text, "401") {
			t.Errorf("console: %s", text)
		}
	}
}
