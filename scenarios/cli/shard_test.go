package cli

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ds4/scenarios"
)

func TestParseShard(t *testing.T) {
	if i, n, err := parseShard("2/5"); i != 2 || n != 5 || err != nil {
		t.Errorf("2/5 is %d of %d, %v", i, n, err)
	}
	for _, s := range []string{"", "/", "2", "0/5", "6/5", "-1/5", "1/0", "a/b", "1/2/3", "1/99999", "1 /2", "9223372036854775808/9223372036854775808"} {
		if _, _, err := parseShard(s); err == nil || !strings.Contains(err.Error(), "is no part such as 2/5") {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// The shards together are the whole, nothing is in two of them, and none has more
// to do than another; in whatever order the scenarios are named.
func TestShardsAreTheWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []unit
		for i := range rapid.IntRange(0, 30).Draw(t, "scenarios") {
			for rep := range rapid.IntRange(1, 5).Draw(t, "repetitions") {
				all = append(all, unit{fmt.Sprintf("scenario-%d", i), rep + 1})
			}
		}
		count := rapid.IntRange(1, 12).Draw(t, "count")
		seen := make(map[unit]int)
		least, most := len(all), 0
		other := rapid.Permutation(all).Draw(t, "order")
		for i := 1; i <= count; i++ {
			mine := shardOf(all, i, count)
			least, most = min(least, len(mine)), max(most, len(mine))
			for u := range mine {
				seen[u]++
			}
			for u := range shardOf(other, i, count) {
				if !mine[u] {
					t.Fatalf("%v moves into shard %d if the order changes", u, i)
				}
			}
		}
		for _, u := range all {
			if seen[u] != 1 {
				t.Fatalf("%v is in %d shards", u, seen[u])
			}
		}
		if len(seen) != len(all) || most-least > 1 {
			t.Fatalf("%d of %d units, shards of %d to %d", len(seen), len(all), least, most)
		}
	})
}

// The split is part of what users rely on: a repetition that failed on one machine
// is on the same shard tomorrow.
func TestShardsArePinned(t *testing.T) {
	all := []unit{{"a", 1}, {"a", 2}, {"a", 3}, {"b", 1}, {"b", 2}, {"c", 1}}
	var got []string
	for u := range shardOf(all, 1, 2) {
		got = append(got, fmt.Sprintf("%s#%d", u.scenario, u.repetition))
	}
	slices.Sort(got)
	if want := "a#2 b#2 c#1"; strings.Join(got, " ") != want {
		t.Errorf("shard 1 of 2 holds %v, want %s", got, want)
	}
}

func TestPlanHash(t *testing.T) {
	library, err := scenarios.Library()
	if err != nil {
		t.Fatal(err)
	}
	list := []chosen{{scenario: library[0]}, {scenario: library[1]}}
	hash := func(list []chosen, repeat int, seed uint64, args ...string) string {
		h, err := planHash(list, repeat, seed, args)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	same := hash(list, 0, 1)
	if got := hash([]chosen{list[1], list[0]}, 0, 1); got != same {
		t.Error("the order of scenarios changes the plan")
	}
	changed := *library[0]
	changed.Title += "!"
	for what, got := range map[string]string{
		"a scenario less": hash(list[:1], 0, 1), "another seed": hash(list, 0, 2), "more repetitions": hash(list, 2, 1),
		"a server flag": hash(list, 0, 1, "--threads"), "a changed scenario": hash([]chosen{{scenario: &changed}, list[1]}, 0, 1),
	} {
		if got == same {
			t.Errorf("%s does not change the plan", what)
		}
	}
}

func TestSplitWords(t *testing.T) {
	for in, want := range map[string][]string{
		"": nil, "  ": nil, "a b": {"a", "b"}, `a "b c" d`: {"a", "b c", "d"}, `'a b'c`: {"a bc"}, `""`: {""},
		`a\ b`: {"a b"}, `"a\"b"`: {`a"b`}, `'a\b'`: {`a\b`}, `"a\nb"`: {`a\nb`}, "a\tb\nc": {"a", "b", "c"}, `FOO="x y" ./z`: {"FOO=x y", "./z"},
	} {
		got, err := splitWords(in)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q is %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{`"a`, `'a`, `a\`} {
		if got, err := splitWords(in); err == nil {
			t.Errorf("%q is %q", in, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) { // what shellWord quotes comes back
		words := rapid.SliceOf(rapid.StringMatching(`[ -~]{0,8}`)).Draw(t, "words")
		got, err := splitWords(quoted(words))
		if err != nil || !slices.Equal(got, words) && len(words) > 0 {
			t.Fatalf("%q came back as %q, %v", words, got, err)
		}
	})
}

func TestParseSubject(t *testing.T) {
	s, err := parseSubject("http://127.0.0.1:8000")
	if err != nil || s.target == "" {
		t.Errorf("%+v, %v", s, err)
	}
	s, err = parseSubject("A=1 B_2='x y' sh serve --threads 1 --port 9")
	if err != nil || !s.ds4 || len(s.env) != 2 || s.env[1] != "B_2=x y" {
		t.Fatalf("%+v, %v", s, err)
	}
	if got := strings.Join(s.commandLine(1024, 0), " "); got != "serve --threads 1 --port 9 --host 127.0.0.1 --ctx 1024" {
		t.Errorf("command line %s", got)
	}
	s, err = parseSubject("sh -c 'x --port=$PORT'")
	if err != nil || s.ds4 {
		t.Fatalf("%+v, %v", s, err)
	}
	if got := s.commandLine(1024, 77); !slices.Equal(got, []string{"-c", "x --port=77"}) {
		t.Errorf("command line %q", got)
	}
	for text, want := range map[string]string{
		"": "no command", "A=1": "no command", "./no/such/file": "no such file", "no-such-program-xyz": "not found", "sh -c x": "$PORT", `"`: "quote",
	} {
		if _, err := parseSubject(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
