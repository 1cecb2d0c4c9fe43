package engine

import (
	"context"
	"errors"
	"strings"
	"testing"

	"ds4/metal"
	"ds4/metal/cpu"
	"ds4/metal/fault"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
)

const seedMessage = "Metal graph embed tokens failed: Internal Error (00000001:Internal Error)"

// faultyEngine runs m on a device that fails by the given rules.
func faultyEngine(t *testing.T, m *model.Model, plan string) *Engine {
	t.Helper()
	rules, err := fault.Parse(plan)
	if err != nil {
		t.Fatal(err)
	}
	p, err := fault.NewPlan(rules, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(m, fault.Wrap(dev, p), Options{ContextTokens: 512, ChunkTokens: 160, Numerics: model.Production})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		e.Close()
		dev.Close()
	})
	return e
}

// TestFailedForwardKeepsState fails a step in every command buffer with every
// effect, and shows that the session is as before and that a retry gives the
// bits of a run without faults.
func TestFailedForwardKeepsState(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	tokens := randomTokens(3, 300, m.Vocab)
	want := oracle(t, m, tokens, model.Production)
	labels := []string{LabelEmbed, "graph layer 1", "graph layer 2", "graph layer 3", LabelHead}
	if testing.Short() {
		labels = labels[2:3] // the layer of ratio 128
	}
	for _, label := range labels {
		for _, effect := range []string{"none", "all", "partial", "scramble"} {
			for _, at := range []string{"commit", "wait"} {
				// The third pass is the one over tokens 250..299: it closes windows of
				// both ratios.
				e := faultyEngine(t, m, "at="+at+`,label="^`+label+`$",n=3,effect=`+effect+`,code=1,text="Internal Error (00000001:Internal Error)"`)
				s := newSession(t, e)
				prefill(t, s, tokens[:130], 160)
				prefill(t, s, tokens[130:250], 160)
				err := e.Forward(t.Context(), []Sequence{{Session: s, Tokens: tokens[250:]}})
				var ce *metal.CommandError
				if !errors.As(err, &ce) || ce.Code != metal.CodeInternal {
					t.Fatalf("%s %s %s: error %v, want a command error", label, at, effect, err)
				}
				if label == LabelEmbed && ce.Error() != seedMessage {
					t.Errorf("message %q, want %q", ce.Error(), seedMessage)
				}
				if s.Len() != 250 || !sameBits(s.Logits(), want[249]) {
					t.Errorf("%s %s %s: the session changed", label, at, effect)
				}
				if err := e.Forward(t.Context(), []Sequence{{Session: s, Tokens: tokens[250:]}}); !errors.Is(err, metal.ErrPoisoned) {
					t.Errorf("%s %s %s: before Rebuild: %v, want ErrPoisoned", label, at, effect, err)
				}
				if err := e.Rebuild(metal.RebuildQueue); err != nil {
					t.Fatal(err)
				}
				prefill(t, s, tokens[250:], 160)
				if !sameBits(s.Logits(), want[299]) {
					t.Errorf("%s %s %s: the retry gives other logits", label, at, effect)
				}
			}
		}
	}
}

func TestForwardRefuses(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	e := newEngine(t, m, 1, Options{ContextTokens: 64, ChunkTokens: 32, Numerics: model.Production})
	s := newSession(t, e)
	for _, c := range []struct {
		name  string
		batch []Sequence
		want  error
	}{
		{"nothing", nil, ErrBatch},
		{"no session", []Sequence{{Tokens: []int32{1}}}, ErrBatch},
		{"no tokens", []Sequence{{Session: s}}, ErrBatch},
		{"shared session", []Sequence{{Session: s, Tokens: []int32{1}}, {Session: s, Tokens: []int32{2}}}, ErrBatch},
		{"negative token", []Sequence{{Session: s, Tokens: []int32{-1}}}, ErrBatch},
		{"token past the vocabulary", []Sequence{{Session: s, Tokens: []int32{int32(m.Vocab)}}}, ErrBatch},
		{"more than a chunk", []Sequence{{Session: s, Tokens: make([]int32, 33)}}, ErrBatch},
		{"more than the context", []Sequence{{Session: s, Tokens: make([]int32, 65)}}, ErrContextFull},
	} {
		if err := e.Forward(t.Context(), c.batch); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if s.Len() != 0 || s.Logits() != nil {
		t.Error("a refused batch changed the session")
	}
}

func TestCancelledForwardKeepsState(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	e := newEngine(t, m, 2, Options{ContextTokens: 64, ChunkTokens: 32, Numerics: model.Production})
	s := newSession(t, e)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := e.Forward(ctx, []Sequence{{Session: s, Tokens: []int32{1, 2, 3}}})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want context.Canceled", err)
	}
	if s.Len() != 0 {
		t.Error("the session changed")
	}
	prefill(t, s, []int32{1, 2, 3}, 3)
}

func TestRewindRefusesOtherHistory(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	e := newEngine(t, m, 1, Options{ContextTokens: 64, ChunkTokens: 32, Numerics: model.Production})
	s := newSession(t, e)
	prefill(t, s, []int32{1, 2, 3}, 3)
	p := s.Keep()
	s.Reset()
	prefill(t, s, []int32{1, 2, 4, 5}, 4)
	if err := s.Rewind(p); !errors.Is(err, ErrPoint) {
		t.Errorf("error %v, want ErrPoint", err)
	}

	larger := synth.Small(4)
	larger.HeadDim += 64
	e = newEngine(t, smallModel(t, larger), 1, Options{ContextTokens: 64, ChunkTokens: 32, Numerics: model.Production})
	s = newSession(t, e)
	prefill(t, s, []int32{1, 2, 3}, 3)
	if err := s.Rewind(p); !errors.Is(err, ErrPoint) || s.Len() != 3 {
		t.Errorf("point of another model: %v, want ErrPoint", err)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	e := newEngine(t, m, 2, Options{ContextTokens: 4096, ChunkTokens: 160, Numerics: model.Production})
	s := newSession(t, e)
	prefill(t, s, randomTokens(1, 600, m.Vocab), 160)
	batch := []Sequence{{Session: s, Tokens: []int32{5}}}
	step := func() {
		if err := e.Forward(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	for range 300 { // let scratch memory and the token list grow
		step()
	}
	if n := testing.AllocsPerRun(200, step); n >= 1 {
		t.Errorf("%.2f allocations per decoded token", n)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	m := smallModel(t, synth.Small(4))
	for _, o := range []Options{{}, {ContextTokens: 10, ChunkTokens: MaxChunkTokens + 1}, {ContextTokens: MaxContextTokens + 1}} {
		if _, _, err := EstimateBytes(m, o); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%+v: error %v", o, err)
		}
	}
}
