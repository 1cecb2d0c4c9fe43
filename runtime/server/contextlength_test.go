package server

import (
	"context"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"ds4/runtime/scheduler"
)

// Claude Code and opencode compact a conversation when they find these in an error;
// the first takes the numbers out of it.
var (
	claudeTooLong   = regexp.MustCompile(`(?i)prompt is too long[^0-9]*(\d+)\s*tokens?\s*>\s*(\d+)`)
	opencodeTooLong = regexp.MustCompile(`(?i)prompt is too long`)
	clineTooLong    = regexp.MustCompile(`(?i)\bmaximum\s*context\b`)
)

// TestAgentsUnderstandLength: a prompt that does not fit is refused in words that make
// agents shorten it, instead of sending it again or giving up.
func TestAgentsUnderstandLength(t *testing.T) {
	for _, atLeast := range []bool{false, true} {
		s := newTestServer(t, &fakeScheduler{submit: func(context.Context, *scheduler.Request) (<-chan scheduler.Event, error) {
			return nil, &scheduler.ContextLengthError{PromptTokens: 32768, ContextTokens: 32768, AtLeast: atLeast}
		}}, nil)
		for _, path := range []string{"/v1/messages", "/v1/chat/completions", "/v1/responses", "/v1/completions"} {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(
				`{"messages":[{"role":"user","content":"hi"}],"input":"hi","prompt":"hi","stream":true}`)))
			body := strings.ReplaceAll(w.Body.String(), `\u003e`, ">")
			m := claudeTooLong.FindStringSubmatch(body)
			if w.Code != http.StatusBadRequest || m == nil || m[1] != "32768" || m[2] != "32767" || !opencodeTooLong.MatchString(body) || !clineTooLong.MatchString(body) {
				t.Errorf("%s: %d %s", path, w.Code, w.Body)
			}
		}
	}
}
