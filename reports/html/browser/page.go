package browser

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Look is how a page is seen.
type Look struct {
	Width, Height int
	Dark          bool
	Print         bool
}

// Page is a tab. Its methods fail the test if something goes wrong.
type Page struct {
	t       testing.TB
	b       *Browser
	session string

	mu       sync.Mutex
	loaded   int
	problems []string // errors of the console and of scripts
	requests []string // URLs that were asked for
}

// Open opens an address in a tab of its own and waits until it is loaded.
func (b *Browser) Open(t testing.TB, address string, look Look) *Page {
	t.Helper()
	p := &Page{t: t, b: b}
	var target struct {
		ID string `json:"targetId"`
	}
	p.must("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct {
		ID string `json:"sessionId"`
	}
	p.must("", "Target.attachToTarget", map[string]any{"targetId": target.ID, "flatten": true}, &attached)
	p.session = attached.ID
	b.mu.Lock()
	b.pages[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Network", "Log"} {
		p.must(p.session, domain+".enable", nil, nil)
	}
	p.See(look)
	p.Go(address)
	return p
}

// See changes how the page is seen.
func (p *Page) See(look Look) {
	p.t.Helper()
	p.must(p.session, "Emulation.setDeviceMetricsOverride", map[string]any{
		"width": look.Width, "height": look.Height, "deviceScaleFactor": 1, "mobile": false}, nil)
	scheme, media := "light", "screen"
	if look.Dark {
		scheme = "dark"
	}
	if look.Print {
		media = "print"
	}
	p.must(p.session, "Emulation.setEmulatedMedia", map[string]any{
		"media": media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"}}}, nil)
}

// Go loads an address.
func (p *Page) Go(address string) {
	p.t.Helper()
	p.mu.Lock()
	before := p.loaded
	p.mu.Unlock()
	var result struct {
		Error string `json:"errorText"`
	}
	p.must(p.session, "Page.navigate", map[string]any{"url": address}, &result)
	if result.Error != "" {
		p.t.Fatalf("browser: %s: %s", address, result.Error)
	}
	p.wait("the page to load", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.loaded > before
	})
}

// must sends a command; the test ends if it fails.
func (p *Page) must(session, method string, params, result any) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := p.b.call(ctx, session, method, params, result); err != nil {
		p.t.Fatalf("browser: %v", err)
	}
}

// event notes what a test asks for later.
func (p *Page) event(method string, params json.RawMessage) {
	var e struct {
		Request struct{ URL string }
		Entry   struct{ Level, Text, URL string }
		Type    string
		Args    []struct {
			Value       any
			Description string
		}
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	_ = json.Unmarshal(params, &e)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch method {
	case "Page.loadEventFired":
		p.loaded++
	case "Network.requestWillBeSent":
		p.requests = append(p.requests, e.Request.URL)
	case "Log.entryAdded":
		if e.Entry.Level == "error" || e.Entry.Level == "warning" {
			p.problems = append(p.problems, strings.TrimSpace(e.Entry.Text+" "+e.Entry.URL))
		}
	case "Runtime.consoleAPICalled":
		if e.Type == "error" || e.Type == "warning" || e.Type == "assert" {
			p.problems = append(p.problems, fmt.Sprint(e.Type, ": ", e.Args))
		}
	case "Runtime.exceptionThrown":
		p.problems = append(p.problems, e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
	}
}

// Problems are the errors and warnings of the console so far.
func (p *Page) Problems() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.problems...)
}

// Requests are the addresses that the page asked for so far, its own included.
func (p *Page) Requests() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.requests...)
}

// Eval evaluates an expression in the page; a promise is waited for.
func (p *Page) Eval(expression string, result any) {
	p.t.Helper()
	if err := p.eval(expression, result); err != nil {
		p.t.Fatalf("browser: %v in\n%s", err, expression)
	}
}

func (p *Page) eval(expression string, result any) error {
	var answer struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := p.b.call(ctx, p.session, "Runtime.evaluate", map[string]any{"expression": expression, "awaitPromise": true, "returnByValue": true}, &answer)
	switch {
	case err != nil:
		return err
	case answer.Exception != nil:
		return fmt.Errorf("%s %s", answer.Exception.Text, answer.Exception.Exception.Description)
	case result == nil || len(answer.Result.Value) == 0:
		return nil
	}
	return json.Unmarshal(answer.Result.Value, result)
}

// Wait waits until an expression is true.
func (p *Page) Wait(what, expression string) {
	p.t.Helper()
	p.wait(what, func() bool {
		var ok bool
		return p.eval("!!("+expression+")", &ok) == nil && ok
	})
}

func (p *Page) wait(what string, ok func() bool) {
	p.t.Helper()
	const every = 20 * time.Millisecond
	for end := time.Now().Add(timeout); !ok(); time.Sleep(every) {
		if time.Now().After(end) {
			var text string
			_ = p.eval("document.body.innerText", &text)
			p.t.Fatalf("browser: waited %v for %s; console: %q; the page says:\n%s", timeout, what, p.Problems(), text)
		}
	}
}

// Type types a text where the focus is.
func (p *Page) Type(text string) {
	p.t.Helper()
	p.must(p.session, "Input.insertText", map[string]any{"text": text}, nil)
}

// keys are the keys that Press knows.
var keys = map[string]map[string]any{
	"Enter":  {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
	"Tab":    {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
	"Space":  {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
	"Escape": {"key": "Escape", "code": "Escape", "windowsVirtualKeyCode": 27},
}

// Press presses a key and lets it go.
func (p *Page) Press(name string) {
	p.t.Helper()
	key, known := keys[name]
	if !known {
		p.t.Fatalf("browser: no key %q", name)
	}
	for _, kind := range []string{"keyDown", "keyUp"} {
		params := map[string]any{"type": kind}
		for k, v := range key {
			if kind == "keyDown" || k != "text" {
				params[k] = v
			}
		}
		p.must(p.session, "Input.dispatchKeyEvent", params, nil)
	}
}

// Box is where an element is, in pixels of the page.
type Box struct{ X, Y, Width, Height float64 }

// Box returns where the first element of a selector is; the test ends if there is
// none, or if it cannot be seen.
func (p *Page) Box(selector string) Box {
	p.t.Helper()
	var b *Box
	p.Eval(fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		if (!e || !e.checkVisibility({visibilityProperty: true, opacityProperty: true})) return null;
		const r = e.getBoundingClientRect();
		return {X: r.x + scrollX, Y: r.y + scrollY, Width: r.width, Height: r.height};
	})()`, selector), &b)
	if b == nil || b.Width <= 0 || b.Height <= 0 {
		p.t.Fatalf("browser: %s is not there or cannot be seen: %+v", selector, b)
	}
	return *b
}

// Click clicks the middle of an element.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.Eval(fmt.Sprintf("document.querySelector(%q)?.scrollIntoView({block: 'center'})", selector), nil)
	b := p.Box(selector)
	var scroll [2]float64
	p.Eval("[scrollX, scrollY]", &scroll)
	for _, kind := range []string{"mousePressed", "mouseReleased"} {
		p.must(p.session, "Input.dispatchMouseEvent", map[string]any{
			"type": kind, "x": b.X + b.Width/2 - scroll[0], "y": b.Y + b.Height/2 - scroll[1], "button": "left", "clickCount": 1}, nil)
	}
}

// Screenshot is the picture of the whole page. It is also written to the directory
// that DS4_BROWSER_OUT names, if it does, for people to look at.
func (p *Page) Screenshot(name string) *image.RGBA {
	p.t.Helper()
	b := p.Box("html")
	var shot struct {
		Data []byte `json:"data"`
	}
	p.must(p.session, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true,
		"clip": map[string]any{"x": b.X, "y": b.Y, "width": b.Width, "height": b.Height, "scale": 1}}, &shot)
	if dir := os.Getenv("DS4_BROWSER_OUT"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), shot.Data, 0o644); err != nil {
			p.t.Fatalf("browser: %v", err)
		}
	}
	img, err := png.Decode(bytes.NewReader(shot.Data))
	if err != nil {
		p.t.Fatalf("browser: screenshot: %v", err)
	}
	out := image.NewRGBA(img.Bounds())
	draw.Draw(out, out.Bounds(), img, image.Point{}, draw.Src)
	return out
}

// Part is what a picture of the page shows of an element.
func (p *Page) Part(picture *image.RGBA, selector string) *image.RGBA {
	p.t.Helper()
	b := p.Box(selector)
	return picture.SubImage(image.Rect(int(b.X), int(b.Y), int(b.X+b.Width), int(b.Y+b.Height))).(*image.RGBA)
}
