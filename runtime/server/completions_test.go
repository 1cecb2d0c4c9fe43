package server

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ds4/runtime/chat"
)

// checkRefusal fails unless err is a 400 of bounded length that contains want, or a 409
// about a history that is missing.
func checkRefusal(t *testing.T, err error, want string) {
	t.Helper()
	var api *apiError
	if !errors.As(err, &api) || api.status != http.StatusBadRequest && api.status != http.StatusConflict || api.Message == "" {
		t.Fatalf("not a refusal: %v", err)
	}
	if !strings.Contains(api.Message, want) || len(api.Message) > 1024 {
		t.Fatalf("got %.2000q, want %q", api.Message, want)
	}
}

// checkAccepted fails unless an accepted request is within its limits and can be asked
// of the model, or is refused for what its tools or messages hold.
func checkAccepted(t *testing.T, s *Server, q *chatRequest) {
	t.Helper()
	tn, err := q.turn()
	if err != nil {
		t.Fatalf("accepted, then no turn: %v", err)
	}
	if len(q.messages) == 0 || len(q.stop) > maxStops || len(q.model) > maxModelBytes || len(q.tools) > maxTools {
		t.Fatalf("limits passed: %+v", q)
	}
	req, err := s.generation(tn)
	if err != nil {
		checkRefusal(t, err, "")
		return
	}
	if err := req.Sampling.Validate(); err != nil {
		t.Fatal(err)
	}
}

func TestCompletionPrompt(t *testing.T) {
	want := []chat.Message{{Role: "system", Content: completionSystem}, {Role: "user", Content: "hi"}}
	for _, body := range []string{
		`{"prompt":"hi"}`, `{"prompt":["hi"],"suffix":null,"echo":false,"logprobs":0,"best_of":1,"n":1,"user":"u"}`,
	} {
		q, err := parseCompletionRequest([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, q.messages); diff != "" {
			t.Error(diff)
		}
		if mode, err := q.mode(); err != nil || mode != chat.None {
			t.Errorf("mode %v, %v", mode, err)
		}
	}
}

func TestBadCompletionRequests(t *testing.T) {
	tests := []struct{ name, body, want string }{
		{"cut", `{"prompt":"`, "the document ends too early"},
		{"no prompt", `{}`, "missing prompt"},
		{"null prompt", `{"prompt":null}`, "missing prompt"},
		{"no strings", `{"prompt":[]}`, "missing prompt"},
		{"number", `{"prompt":1}`, "prompt: want a string or an array of one string, got a number"},
		{"token ids", `{"prompt":[1,2]}`, "prompt[0]: want a string, got a number"},
		{"arrays", `{"prompt":[["x"]]}`, "prompt[0]: want a string, got an array"},
		{"two prompts", `{"prompt":["a","b"]}`, "prompt: want one string, got several"},
		{"suffix", `{"prompt":"a","suffix":"b"}`, "suffix: this model does not fill in the middle"},
		{"echo", `{"prompt":"a","echo":true}`, "echo: the prompt is not repeated"},
		{"best of", `{"prompt":"a","best_of":2}`, "best_of: 2 choices are not supported"},
		{"logprobs", `{"prompt":"a","logprobs":1}`, "logprobs: not supported here"},
		{"choices", `{"prompt":"a","n":2}`, "n: 2 choices are not supported"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parseCompletionRequest([]byte(tt.body))
			checkRefusal(t, err, tt.want)
		})
	}
}

// FuzzCompletionRequest: whatever comes is refused with a reason, or can be asked of
// the model.
func FuzzCompletionRequest(f *testing.F) {
	for _, seed := range []string{
		`{"prompt":"a","max_tokens":5,"stream":true,"stop":["x"]}`, `{"prompt":["a"],"echo":false}`, `{"prompt":[[`, `{"prompt":"a","prompt":null}`, "\xff",
	} {
		f.Add([]byte(seed))
	}
	s := newTestServer(f, &fakeScheduler{}, nil)
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parseCompletionRequest(body)
		if err != nil {
			checkRefusal(t, err, "")
			return
		}
		checkAccepted(t, s, &q.chatRequest)
	})
}
