package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"ds4/reports/html/browser"
)

// scripted is a server that says what a test wants, for answers that no model can be
// made to give.
type scripted struct {
	mu      sync.Mutex
	answers []string            // of the requests to come, in pieces of a few bytes
	finish  string              // of all of them
	asked   [][]scriptedMessage // conversations that came
}

type scriptedMessage struct{ Role, Content string }

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		Serve(w, r)
	case "/healthz":
		fmt.Fprint(w, `{"status":"ok"}`)
	case "/v1/sessions":
		fmt.Fprint(w, `{"model":"scripted","context_tokens":1000,"waiting":0,"sessions":[],"totals":{}}`)
	case "/v1/kv":
		fmt.Fprint(w, `{"enabled":false,"reason":"no cache","entries":[],"quarantine":[]}`)
	case "/v1/chat/completions":
		s.chat(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (s *scripted) chat(w http.ResponseWriter, r *http.Request) {
	var body struct{ Messages []scriptedMessage }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.asked = append(s.asked, body.Messages)
	answer := s.answers[0]
	s.answers = s.answers[1:]
	s.mu.Unlock()
	w.Header().Set("Content-Type", "text/event-stream")
	for len(answer) > 0 {
		n := min(3, len(answer))
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", answer[:n])
		_ = http.NewResponseController(w).Flush()
		answer = answer[n:]
	}
	if !strings.HasPrefix(s.finish, "{") {
		fmt.Fprintf(w, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":%q}]}\n\ndata: [DONE]\n\n", s.finish)
		return
	}
	fmt.Fprintf(w, "event: error\ndata: {\"error\":%s}\n\n", s.finish)
}

// Code is shown as code, whatever pieces it comes in, and nothing as markup; the
// model gets back what it said.
func TestBrowserShowsCode(t *testing.T) {
	const answer = "# Title\n\nUse `a < b` or **not**:\n\n```go\nfunc main() {\n\n\tprintln(\"<b>x</b>\", `raw`)\n}\n```\n\nThen 2 * 3 * 4 and\n1. one\n   ~~~\n   <script>alert(1)</script>\n   ```\n   ~~~\nend"
	b := browser.Start(t)
	s := &scripted{answers: []string{answer, strings.Repeat("line\n", 2000) + "end"}, finish: "stop"}
	web := httptest.NewServer(s)
	defer web.Close()
	p := b.Open(t, web.URL, desktop)
	say(p, "Hello `there`")
	p.Wait("the answer", `/first token/.test(`+figures+`) && !document.querySelector('.busy')`)
	var got struct {
		Code, Spans, Bold []string
		Text, Language    string
		Bad               int
	}
	p.Eval(`(() => {
		const said = [...document.querySelectorAll('.turn.assistant .said')].at(-1), all = (s) => [...said.querySelectorAll(s)].map((e) => e.textContent);
		const plain = said.cloneNode(true);
		for (const e of plain.querySelectorAll('.code')) e.replaceWith('[code]');
		return {Code: all('pre code'), Spans: all(':scope > code'), Bold: all('b'), Text: plain.textContent,
			Language: said.querySelector('.code p').firstChild.textContent, Bad: said.querySelectorAll('script, b b, pre b').length};
	})()`, &got)
	if fmt.Sprintf("%q", got.Code) != fmt.Sprintf("%q", []string{"func main() {\n\n\tprintln(\"<b>x</b>\", `raw`)\n}", "<script>alert(1)</script>\n```"}) ||
		fmt.Sprintf("%q", got.Spans) != `["a < b"]` || fmt.Sprintf("%q", got.Bold) != `["Title" "not"]` || got.Language != "go" || got.Bad != 0 {
		t.Errorf("%+v", got)
	}
	if want := "Title\n\nUse a < b or not:\n[code]Then 2 * 3 * 4 and\n1. one[code]end"; strings.ReplaceAll(got.Text, ":\n\n", ":\n") != want {
		t.Errorf("got %q, want %q", got.Text, want)
	}
	for name, look := range map[string]browser.Look{"code": desktop, "code-dark-narrow": {Width: 390, Height: 844, Dark: true}} {
		p.See(look)
		p.Box(".code pre")
		p.CheckReadable()
		p.CheckFits()
		p.Screenshot("ui-" + name)
	}
	p.CheckQuiet(web.URL)
	// Where the state of the server is below, the conversation is still followed.
	p.See(browser.Look{Width: 390, Height: 844})
	p.Eval(`window.changes = 0; new MutationObserver(() => window.changes++).observe(document.querySelector('#log'), {childList: true, subtree: true, characterData: true})`, nil)
	say(p, "Again")
	p.Wait("the second answer", `document.querySelectorAll('.turn').length === 4 && /first token/.test(`+figures+`)`)
	var at struct{ End, Top, Bottom, Height float64 } // of the answer, of the input, of the window
	p.Eval(`(() => {
		const ask = document.querySelector('#ask').getBoundingClientRect(), turn = [...document.querySelectorAll('.turn')].at(-1).getBoundingClientRect();
		return {End: turn.bottom, Top: ask.top, Bottom: ask.bottom, Height: innerHeight};
	})()`, &at)
	if at.End > at.Top || at.Top-at.End > 100 || at.Top < at.Height/2 || at.Bottom > at.Height+1 {
		t.Errorf("the end of the answer is not seen: %+v", at)
	}
	// Each change costs a layout of all that was said; there may be one a frame, not one a piece.
	var changes int
	if p.Eval(`window.changes`, &changes); changes > 1000 {
		t.Errorf("%d changes of the page for 3335 pieces of an answer", changes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if back := s.asked[1]; len(back) != 3 || back[1] != (scriptedMessage{"assistant", answer}) || back[0].Content != "Hello `there`" {
		t.Errorf("the conversation went back as %q", back)
	}
}

// A question whose answer failed is left out when another one is asked, the page says
// so, and what could try it again is gone.
func TestBrowserLeavesOut(t *testing.T) {
	b := browser.Start(t)
	s := &scripted{answers: []string{"half of", "one"}, finish: `{"message":"it broke","retryable":false,"limit":3}`}
	web := httptest.NewServer(s)
	defer web.Close()
	p := b.Open(t, web.URL, desktop)
	say(p, "First")
	p.Wait("the failure", `/it broke.*has given this conversation up for now, after 3 failures/.test(`+problem+`) && document.querySelector('.problem button')`)
	s.mu.Lock()
	s.finish = "stop"
	s.mu.Unlock()
	say(p, "Second")
	p.Wait("an answer", lastSaid+` === 'one' && !document.querySelector('.busy')`)
	var buttons int
	p.Eval(`document.querySelectorAll('.problem button').length`, &buttons)
	var note string
	p.Eval(`document.querySelector('.turn.user .figures')?.textContent ?? ''`, &note)
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.asked[len(s.asked)-1]; len(last) != 1 || last[0].Content != "Second" || buttons != 0 || !strings.Contains(note, "left out") {
		t.Errorf("sent %q, %d buttons, %q", last, buttons, note)
	}
	p.CheckReadable()
	p.Screenshot("ui-left-out")
}
