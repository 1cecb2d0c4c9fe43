package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ds4/runtime/config"
	"ds4/runtime/failpoint"
)

// notifier is a writer that calls back at the first write that holds a text.
type notifier struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	want string
	hit  func()
}

func (n *notifier) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.buf.Write(p)
	if n.hit != nil && strings.Contains(n.buf.String(), n.want) {
		n.hit()
		n.hit = nil
	}
	return len(p), nil
}

func (n *notifier) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.buf.String()
}

// slowDialogue decodes so slowly that a signal comes in time.
func slowDialogue(t *testing.T, out io.Writer) (*dialogue, *bytes.Buffer) {
	t.Helper()
	var errs bytes.Buffer
	a := &app{Streams: Streams{In: strings.NewReader(""), Out: out, Err: &errs, Environ: []string{config.EnableFaultsEnv + "=1"}}}
	var s localSettings
	s.add()
	if err := s.Resolve(config.Sources{}); err != nil {
		t.Fatal(err)
	}
	rule, err := failpoint.Parse("decode.step=delay(20ms):every")
	if err != nil {
		t.Fatal(err)
	}
	s.model.Context, s.sampling.Params.Temperature = 512, 0
	s.faults.Rules = []failpoint.Rule{rule}
	d, err := a.newDialogue(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	return d, &errs
}

// script is an input that gives lines one after the other.
func script(lines ...string) *input {
	in := &input{ask: make(chan struct{}), got: make(chan inputLine, 1), end: func() {}}
	in.read = func() (string, error) {
		if len(lines) == 0 {
			return "", io.EOF
		}
		line := lines[0]
		lines = lines[1:]
		return line, nil
	}
	go in.serve()
	return in
}

// TestChatInterrupt: a signal stops the answer and nothing else; what was said so
// far is part of the conversation, and the next turn is answered.
func TestChatInterrupt(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	signals := make(chan os.Signal, 2)
	out := &notifier{want: "ds4-tiny", hit: func() { signals <- os.Interrupt }}
	d, errs := slowDialogue(t, out)
	in := script("Who are you?", "/think", "What does strings.Cut do?")
	if err := d.loop(t.Context(), in, signals); err != nil {
		t.Error(err)
	}
	in.close()
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if strings.Contains(out.String(), "standard library.") {
		t.Errorf("the answer was not stopped: %s", out)
	}
	if !strings.Contains(errs.String(), "[stopped]\nthinking: none\n") || !strings.Contains(out.String(), "Cut slices s around") {
		t.Errorf("the chat did not go on: %s\n%s", errs, out)
	}
	if len(d.messages) != 4 || !strings.HasPrefix(d.messages[1].Content, "I am ds4-tiny") {
		t.Errorf("the conversation is %+v", d.messages)
	}
}

// TestChatLeaves: two signals, or one at the prompt, or SIGTERM, end the chat.
func TestChatLeaves(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	for name, list := range map[string][]os.Signal{
		"twice":   {os.Interrupt, os.Interrupt},
		"SIGTERM": {syscall.SIGTERM},
	} {
		signals := make(chan os.Signal, 2)
		out := &notifier{want: "I", hit: func() {
			for _, sig := range list {
				signals <- sig
			}
		}}
		d, _ := slowDialogue(t, out)
		in := script("Who are you?", "never reached")
		if err := d.loop(t.Context(), in, signals); !errors.Is(err, errInterrupted) {
			t.Errorf("%s: %v", name, err)
		}
		in.close()
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}
	blocked := make(chan struct{})
	in := &input{ask: make(chan struct{}), got: make(chan inputLine, 1), end: func() {}}
	in.read = func() (string, error) { <-blocked; return "", io.EOF }
	go in.serve()
	signals := make(chan os.Signal, 1)
	signals <- os.Interrupt
	if _, err := in.next(signals); !errors.Is(err, errInterrupted) {
		t.Errorf("at the prompt: %v", err)
	}
	close(blocked)
	in.close()
}

// TestRunInterrupted: a cancelled answer is no failure of the device and ends with
// the code of an interruption.
func TestRunInterrupted(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out := &notifier{want: "I", hit: cancel}
	d, _ := slowDialogue(t, out)
	err := d.ask(ctx, "Who are you?")
	if !interrupted(ctx, err) {
		t.Errorf("%v is no interruption", err)
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	a := &app{Streams: Streams{Err: io.Discard}}
	if code := a.exitCode(&exitError{code: exitInterrupted}); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
}

func TestBoundedLines(t *testing.T) {
	read := boundedLines(strings.NewReader("a\nb"))
	for _, want := range []string{"a", "b"} {
		if got, err := read(); got != want || err != nil {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	if _, err := read(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	read = boundedLines(strings.NewReader(strings.Repeat("x", maxLineBytes+1)))
	if _, err := read(); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a line beyond the limit: %v", err)
	}
}
