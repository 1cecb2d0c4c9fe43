package server

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"ds4/runtime/scheduler"
)

// wrongValues replace each value of a good request in turn.
var wrongValues = []string{
	`7`, `"zzz"`, `true`, `[]`, `{}`, `[7]`, `["zzz"]`, `[{}]`, `[{"type":"zzz"}]`, `{"type":"zzz"}`, `-7`, `1e999`, `null`, `""`,
	`"` + strings.Repeat("long", 75) + `"`, `"` + strings.Repeat("long", 300) + `"`,
}

// values are the parts of a message that tell what it got.
var values = regexp.MustCompile(`, got .*|"[^"]*"|[0-9]+ bytes`)

// innerWords are names of packages and of errors that mean nothing to a client.
var innerWords = regexp.MustCompile(`\b(chat|scheduler|sample|server|engine): |bad request|bad messages|bad tools|unknown thinking mode`)

// TestRefusals replaces every value of a request that has every field, at every depth, by
// what does not belong there. The files show what clients are told: what is wrong, where,
// and which limit there is, each of it once.
func TestRefusals(t *testing.T) {
	datadriven.Walk(t, "testdata/refusals", func(t *testing.T, file string) {
		datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
			s := newTestServer(t, &fakeScheduler{submit: play(text("hi"), done(scheduler.FinishStop))}, nil)
			if code, body := refusal(s, d.Cmd, d.Input); code != http.StatusOK {
				d.Fatalf(t, "the request itself is refused: %s", body)
			}
			var doc any
			if err := json.Unmarshal([]byte(d.Input), &doc); err != nil {
				d.Fatalf(t, "%v", err)
			}
			var out strings.Builder
			for _, path := range pathsOf(doc, "") {
				told := map[string]bool{} // apart from what it got
				for _, wrong := range wrongValues {
					code, body := refusal(s, d.Cmd, replaced(d.Input, path, wrong))
					if code == http.StatusOK {
						continue
					}
					message := checkRefused(t, code, body)
					if rule := values.ReplaceAllString(message, ""); !told[rule] {
						told[rule] = true
						fmt.Fprintf(&out, "%s = %.40s: %s\n", path, wrong, message)
					}
				}
			}
			return out.String()
		})
	})
}

func refusal(s *Server, path, body string) (int, string) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodPost, path, strings.NewReader(body)))
	return w.Code, w.Body.String()
}

// checkRefused returns the message of a refusal, which names its place, once.
func checkRefused(t *testing.T, code int, body string) string {
	t.Helper()
	var e struct {
		Error struct{ Message, Param string }
	}
	if err := json.Unmarshal([]byte(body), &e); err != nil || code != http.StatusBadRequest && code != http.StatusConflict {
		t.Fatalf("status %d: %s", code, body)
	}
	m, p := e.Error.Message, e.Error.Param
	switch {
	case p == "" || m != "missing "+p && !strings.HasPrefix(m, p):
		t.Errorf("%q is not about %q", m, p)
	case len(regexp.MustCompile(`(^|[^\w.])`+regexp.QuoteMeta(p)+`($|[^\w.\[])`).FindAllString(m, -1)) > 1:
		t.Errorf("%q says twice where", m)
	case innerWords.MatchString(m), len(m) > 400:
		t.Errorf("%q is not for clients", m)
	}
	return m
}

// pathsOf lists the places of a document, as refusals name them.
func pathsOf(v any, path string) (list []string) {
	if path != "" {
		list = append(list, path)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			list = append(list, pathsOf(v[name], strings.TrimPrefix(path+"."+name, "."))...)
		}
	case []any:
		for i := range v {
			list = append(list, pathsOf(v[i], fmt.Sprintf("%s[%d]", path, i))...)
		}
	}
	return list
}

// replaced is a document with another value at a path.
func replaced(document, path, value string) string {
	const mark = "\x00"
	var change func(v any, at string) any
	change = func(v any, at string) any {
		if at == path {
			return mark
		}
		switch v := v.(type) {
		case map[string]any:
			for name := range v {
				v[name] = change(v[name], strings.TrimPrefix(at+"."+name, "."))
			}
		case []any:
			for i := range v {
				v[i] = change(v[i], fmt.Sprintf("%s[%d]", at, i))
			}
		}
		return v
	}
	var doc any
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		panic(err)
	}
	return strings.Replace(string(appendJSON(nil, change(doc, ""))), `"\u0000"`, value, 1)
}
