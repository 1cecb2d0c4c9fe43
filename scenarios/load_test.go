package scenarios

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// minimal is a file that loads; cases add to it.
const minimal = `id: some-case
title: something breaks
lane: process
steps:
  - start: {}
  - chat: {as: cold, prompt: {text: hello}}
expect:
  - outcome: recovered
`

func TestLoad(t *testing.T) {
	s, err := Load([]byte(minimal), "x.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if s.ID != "some-case" || s.Passes() != 1 || len(s.Steps) != 2 || s.Steps[0].Start == nil || s.Steps[1].Chat.Prompt.Text != "hello" {
		t.Errorf("%+v", s)
	}
	if !reflect.DeepEqual(s.Expect[0].Outcome, Words{"recovered"}) {
		t.Errorf("outcome %v", s.Expect[0].Outcome)
	}
}

// TestLoadByteOrderMark: what some editors put in front is no part of the first field.
func TestLoadByteOrderMark(t *testing.T) {
	if s, err := Load([]byte("\ufeff"+minimal), "x.yaml"); err != nil || s.ID != "some-case" {
		t.Errorf("%+v, %v", s, err)
	}
}

// Errors must lead the author to the place.
func TestLoadErrors(t *testing.T) {
	for _, c := range []struct{ name, add, want string }{
		{"unknown field", "titel: x\n", `x.yaml:9:1: invalid scenario: unknown field "titel" (did you mean "title"?)`},
		{"unknown step", "", ""},
		{"duplicate key", "title: again\n", "x.yaml:9:1: "},
		{"anchor", "tags: &a [x]\n", "x.yaml:9:7: anchors"},
		{"alias", "tags: *a\n", "x.yaml:9:7: "},
		{"tag", "tags: !seed, ci]\n", "x.yaml:9:7: anchors"},
		{"duration", "deadline: 3\n", `x.yaml:9:11: invalid scenario: duration "3": want a number with a unit`},
		{"long duration", "deadline: 2h\n", "want 0s to 1h"},
		{"type", "repeat: often\n", "x.yaml:9:9: "},
		{"second document", "---\nid: y\n", "more than one document"},
		{"measure", "measure: [ttft]\n", `did you mean "ttft_ms"`},
		{"long line", "tags: [" + strings.Repeat("x", maxLineBytes) + "]\n", "x.yaml:9:1: nested too deeply, or a line too long"},
		{"brackets", "tags: " + strings.Repeat("[", 50) + "\n", "open brackets"},
		{"dashes", "tags: " + strings.Repeat("- ", 50) + "\n", "levels in one line"},
		{"zero byte", "tags: \x00\n", "a zero byte"},
		{"repeat", "repeat: -1\n", "repeat -1"},
		{"memory", "memory: {segments: 1, crashes: 1}\n", "lane memory"},
		{"reserved flag", "server: {args: {port: 80}}\n", `"port" is not a flag`},
		{"list as flag", "server: {args: {ctx: [1]}}\n", "want a single value"},
	} {
		_, err := Load([]byte(minimal+c.add), "x.yaml")
		switch {
		case c.want == "":
		case err == nil || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		case strings.Contains(err.Error(), "\n"):
			t.Errorf("%s: an error of several lines: %q", c.name, err)
		}
	}
	if _, err := Load(make([]byte, MaxFileBytes+1), "x"); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a large file: %v", err)
	}
	if _, err := LoadFile(filepath.Join(t.TempDir(), "none.yaml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestCheckErrors(t *testing.T) {
	const head = "id: x\ntitle: t\nlane: process\n"
	for _, c := range []struct{ body, want string }{
		{"steps: [{start: {}}]\nexpect: []", "no expect"},
		{"expect: [{outcome: recovered}]", "no steps"},
		{"catalogue: A\nsteps: [{start: {}}]\nexpect: [{outcome: recovered}]", `catalogue "A"`},
		{"steps: [{start: {}, stop: {}}]\nexpect: [{outcome: recovered}]", "exactly one kind of step"},
		{"steps: [{start: {}}]\nexpect: [{outcome: wrong}]", "nobody wants"},
		{"steps: [{start: {}}]\nexpect: [{outcome: fine}]", "unknown outcome"},
		{"steps: [{start: {}}]\nexpect: [{equal: [a, b]}]", `no chat is named "a"`},
		{"steps: [{start: {}}]\nexpect: [{retries: {}}]", "want exactly, at_least or at_most"},
		{"steps: [{chat: {same: a}}]\nexpect: [{outcome: recovered}]", `no earlier chat is named "a"`},
		{"steps: [{chat: {as: a, prompt: {text: x}}}, {chat: {as: a, same: a}}]\nexpect: [{outcome: recovered}]", `"a" is the name of steps[0].chat, too`},
		{"steps: [{turns: {as: a, users: [{text: x}]}}, {turns: {as: a, users: [{text: x}]}}]\nexpect: [{outcome: recovered}]", `"a" is the name of steps[0].turns, too`},
		{"steps: [{chat: {prompt: {corpus: latin, tokens: 1}}}]\nexpect: [{outcome: recovered}]", `corpus "latin"`},
		{"steps: [{chat: {prompt: {corpus: chat}}}]\nexpect: [{outcome: recovered}]", "tokens 0"},
		{"steps: [{start: {faults: [prefill.embed]}}]\nexpect: [{outcome: recovered}]", "prefill.embed"},
		{"steps: [{start: {faults: ['kv.opne=eio']}}]\nexpect: [{outcome: recovered}]", "kv.open"},
		{"steps: [{corrupt: {op: melt}}]\nexpect: [{outcome: recovered}]", "melt"},
		{"steps: [{corrupt: {op: flip, at: melody}}]\nexpect: [{outcome: recovered}]", "melody"},
		{"steps: [{corrupt: {op: flip, file: best}}]\nexpect: [{outcome: recovered}]", "best"},
		{"steps: [{corrupt: {op: zero, bytes: many}}]\nexpect: [{outcome: recovered}]", "many"},
		{"steps: [{corrupt: {op: shorten, at: header+3}}]\nexpect: [{outcome: recovered}]", "wants a section"},
		{"steps: [{plant: {name: ../x}}]\nexpect: [{outcome: recovered}]", "../x"},
		{"steps: [{plant: {name: x, count: 2}}]\nexpect: [{outcome: recovered}]", "need a #"},
		{"steps: [{plant: {name: x, kind: socket}}]\nexpect: [{outcome: recovered}]", "socket"},
		{"steps: [{plant: {name: x, bytes: some}}]\nexpect: [{outcome: recovered}]", "some"},
		{"steps: [{plant: {name: x, from: best}}]\nexpect: [{outcome: recovered}]", "best"},
		{"steps: [{swap-model: {kind: colour}}]\nexpect: [{outcome: recovered}]", "colour"},
		{"steps: [{turns: {as: a, users: [{text: x}], after: b}}]\nexpect: [{outcome: recovered}]", `no earlier chat is named "b"`},
		{"steps: [{chat: {prompt: {text: x, then: {corpus: latin, tokens: 1}}}}]\nexpect: [{outcome: recovered}]", `corpus "latin"`},
		{"steps: [{start: {}}]\nexpect: [{page: {path: healthz, matches: x}}]", "want a path"},
		{"steps: [{start: {}}]\nexpect: [{disk_bytes: {}}]", "want exactly, at_least or at_most"},
		{"steps: [{corrupt: {op: substitute, text: x}}]\nexpect: [{outcome: recovered}]", "match"},
		{"steps: [{corrupt: {op: zero, match: x}}]\nexpect: [{outcome: recovered}]", "match"},
		{"steps: [{start: {}}]\nexpect: [{unchanged: a}]", "nothing was kept"},
		{"steps: [{put-back: {name: a}}]\nexpect: [{outcome: recovered}]", "nothing was kept"},
		{"steps: [{signal: {kill: HUP}}]\nexpect: [{outcome: recovered}]", "HUP"},
		{"steps: [{wait: {}}]\nexpect: [{outcome: recovered}]", "exactly one of"},
		{"steps: [{wait: {log: '('}}]\nexpect: [{outcome: recovered}]", "missing closing"},
		{"steps: [{corrupt: {op: flip, at: $where}}]\nexpect: [{outcome: recovered}]", "$where"},
		{"steps: [{sweep: {var: n, steps: [{start: {}}]}}]\nexpect: [{outcome: recovered}]", "either over or until"},
		{"steps: [{sweep: {var: at, over: [header, melody], steps: [{corrupt: {op: flip, at: $at}}]}}]\nexpect: [{outcome: recovered}]", "(with at=melody)"},
		{"steps: [{sweep: {var: n, over: [a], steps: [{repeat: {times: 0, steps: []}}]}}]\nexpect: [{outcome: recovered}]", "times 0"},
	} {
		_, err := Load([]byte(head+c.body), "x.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, ErrInvalid) {
			t.Errorf("%s\n: error %v, want %q", c.body, err, c.want)
		}
	}
}

func TestLibraryLoads(t *testing.T) {
	list, err := Library()
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		t.Fatal("the library is empty")
	}
	for _, s := range list {
		if s.Title == "" || len(s.Tags) == 0 {
			t.Errorf("%s: no title or no tags", s.ID)
		}
		if got, err := Find(list, s.ID); err != nil || got != s {
			t.Errorf("find %s: %v", s.ID, err)
		}
	}
	if _, err := Find(list, "stale-kv-after-kil9"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), `did you mean "stale-kv-after-kill9"`) {
		t.Errorf("find with a slip: %v", err)
	}
	for _, id := range []string{"../schema", "no-such", ""} {
		if _, err := Source(id); !errors.Is(err, ErrUnknown) {
			t.Errorf("source of %q: %v", id, err)
		}
	}
}

func TestExpand(t *testing.T) {
	lookup := func(name string) (string, bool) {
		v, ok := map[string]string{"at": "tokens", "KV": "/kv"}[name]
		return v, ok
	}
	for in, want := range map[string]string{
		"": "", "plain": "plain", "$at+3": "tokens+3", "${at}s": "tokenss", "a$$b": "a$b", "end$": "end$", "$KV/x": "/kv/x", "$ 5": "$ 5", "a$)": "a$)",
	} {
		got, err := ExpandString(in, lookup)
		if err != nil || got != want {
			t.Errorf("%q: %q %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"$none", "${none}", "${at"} {
		if _, err := ExpandString(bad, lookup); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Expansion makes a copy: the scenario must be the same for the next pass.
func TestExpandCopies(t *testing.T) {
	n := int64(3)
	steps := []Step{{Start: &Start{Faults: []string{"$x"}, Args: map[string]any{"a": "$x", "b": 5}}},
		{Expect: []Expect{{Segments: &Bounds{Exactly: &n}}}}}
	got, err := Expand(steps, func(string) (string, bool) { return "v", true })
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Start.Faults[0] != "v" || got[0].Start.Args["a"] != "v" || got[0].Start.Args["b"] != 5 || *got[1].Expect[0].Segments.Exactly != 3 {
		t.Errorf("%+v", got)
	}
	if steps[0].Start.Faults[0] != "$x" || steps[0].Start.Args["a"] != "$x" {
		t.Error("the original was changed")
	}
}

func TestBounds(t *testing.T) {
	two, four := int64(2), int64(4)
	for _, c := range []struct {
		b    Bounds
		hold []int64 // of 1..5
	}{
		{Bounds{}, []int64{1, 2, 3, 4, 5}},
		{Bounds{Exactly: &two}, []int64{2}},
		{Bounds{AtLeast: &two}, []int64{2, 3, 4, 5}},
		{Bounds{AtMost: &two}, []int64{1, 2}},
		{Bounds{AtLeast: &two, AtMost: &four}, []int64{2, 3, 4}},
		{Bounds{Exactly: &four, AtMost: &two}, nil},
	} {
		var got []int64
		for n := int64(1); n <= 5; n++ {
			if c.b.Hold(n) {
				got = append(got, n)
			}
		}
		if !reflect.DeepEqual(got, c.hold) {
			t.Errorf("%+v holds %v, want %v", c.b, got, c.hold)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"start", "stop", "stream", "expect"}
	for word, want := range map[string]string{"strat": "start", "stpo": "stop", "steram": "stream", "exp": "expect", "zzz": "", "": ""} {
		if got := suggest(word, known); got != want {
			t.Errorf("suggest(%q) = %q, want %q", word, got, want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte(minimal))
	list, err := Library()
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range list {
		src, err := Source(s.ID)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte("a: &x [*x, *x]\n? [a]\n: |\n  b\n--- !!binary x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		start := time.Now()
		s, err := Load(data, "fuzz.yaml")
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("%d bytes took %s", len(data), took)
		}
		if (s == nil) == (err == nil) {
			t.Fatalf("scenario %v and error %v", s, err)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Fatalf("an error of several lines: %q", err)
		}
		if s != nil {
			if err := s.Check(); err != nil {
				t.Fatalf("loaded, and then: %v", err)
			}
		}
	})
}
