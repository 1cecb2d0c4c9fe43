package ui

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(method string, header http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "/", nil)
	for k, v := range header {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	Serve(w, r)
	return w
}

// The policy must allow what is in the page, and the page must need no more.
func TestPolicy(t *testing.T) {
	w := get(http.MethodGet, nil)
	page := w.Body.String()
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "text/html; charset=utf-8" {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	csp := w.Header().Get("Content-Security-Policy")
	for _, part := range []struct{ directive, element string }{{"script-src", "script"}, {"style-src", "style"}} {
		m := regexp.MustCompile(`(?s)<`+part.element+`>(.*?)</`+part.element+`>`).FindAllStringSubmatch(page, -1)
		if len(m) != 1 || len(m[0][1]) < 1000 {
			t.Fatalf("%d elements %s", len(m), part.element)
		}
		if want := part.directive + " '" + hash([]byte(m[0][1])) + "';"; !strings.Contains(csp, want) {
			t.Errorf("the policy %q does not contain %q", csp, want)
		}
	}
	for _, want := range []string{"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("the policy %q does not contain %q", csp, want)
		}
	}
	for _, bad := range []string{"unsafe", "http:", "https:", "*"} {
		if strings.Contains(csp, bad) {
			t.Errorf("the policy %q contains %q", csp, bad)
		}
	}
}

// Nothing comes from elsewhere, and nothing turns text into markup or code.
func TestPage(t *testing.T) {
	for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "src=", "@import", "url(", " onclick=", " style=", "localStorage"} {
		if bytes.Contains(document, []byte(bad)) {
			t.Errorf("the page contains %q", bad)
		}
	}
	if n := bytes.Count(document, []byte("http")); n != bytes.Count(document, []byte("http://www.w3.org/2000/svg")) {
		t.Errorf("%d addresses in the page, the name of SVG is the only one that it needs", n)
	}
	const most = 64 << 10
	if len(document) > most {
		t.Errorf("%d bytes: a small page has at most %d", len(document), most)
	}
}

func TestServe(t *testing.T) {
	w := get(http.MethodHead, nil)
	if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" {
		t.Errorf("HEAD: %d, %d bytes, %v", w.Code, w.Body.Len(), w.Header())
	}
	w = get(http.MethodGet, http.Header{"If-None-Match": {tag}})
	if w.Code != http.StatusNotModified || w.Header().Get("Content-Security-Policy") == "" {
		t.Errorf("unchanged: %d %v", w.Code, w.Header())
	}
	if w := get(http.MethodGet, http.Header{"If-None-Match": {`"another"`}}); w.Code != http.StatusOK {
		t.Errorf("changed: %d", w.Code)
	}
}
