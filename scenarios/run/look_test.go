package run

import (
	"strings"
	"testing"

	"ds4/reports"
)

// looking is a scenario whose one assertion, in place of ASSERT, is made after
// two conversations, one of which goes on, and with planted files.
const looking = caseHead + `steps:
  - start: {}
  - turns: {as: a, users: [{text: one}, {text: two, then: {text: three}}]}
  - turns: {as: b, after: a, users: [{text: four}]}
  - stop: {}
  - plant: {name: "extra/#.bin", bytes: "1000", count: 3}
  - start: {}
  - expect: [ASSERT]
expect: [{outcome: recovered}]
`

// Each assertion must hold where it should, and say what it found where not.
func TestLooking(t *testing.T) {
	for _, c := range []struct{ assert, says string }{
		{`{page: {path: /healthz, matches: '"status":"ok"'}}`, ""},
		{`{page: {path: /healthz, matches: degraded}}`, `want "degraded" in it`},
		{`{log: {matches: "chat ctx", exactly: 3}}`, ""},
		{`{log: {matches: "(chat) ctx", distinct: true, exactly: 1}}`, ""},
		{`{log: {matches: "listening on .*:([0-9]+)$", distinct: true, exactly: 2}}`, ""},
		{`{log: {matches: "(chat) ctx", distinct: true, exactly: 3}}`, "1 log lines"},
		{`{disk_bytes: {at_least: 3000, at_most: 4000}}`, ""},
		{`{disk_bytes: {at_most: 2999}}`, "bytes under the cache directory, want at most 2999"},
		{`{reused: {chat: b-1, exactly: 0}}`, ""},
		{`{reused: {chat: b-1, at_least: 90}}`, "0 of chat b-1, want at least 90"},
		{`{equal: [a-2, b-1]}`, "a-2 is"},
	} {
		t.Run(c.assert, func(t *testing.T) {
			t.Parallel()
			res := replay(t, "good", strings.Replace(looking, "ASSERT", c.assert, 1))
			all := strings.Join(append(res.Failures, res.Reason), "\n")
			if pass := res.Verdict == reports.Pass; pass != (c.says == "") || !strings.Contains(all, c.says) {
				t.Errorf("%s, want %q:\n%s", res.Verdict, c.says, all)
			}
		})
	}
}

// A conversation whose answers are not compared may be wrong without a word; that
// is what the other assertions are for.
func TestNoControl(t *testing.T) {
	text := strings.Replace(looking, "ASSERT", "{equal: [a-1, a-1]}", 1)
	if res := replay(t, "always wrong", text); res.Verdict != reports.Fail {
		t.Errorf("with control: %s", res.Verdict)
	}
	text = strings.ReplaceAll(text, "turns: {", "turns: {no_control: true, ")
	res := replay(t, "always wrong", text)
	for _, f := range res.Failures {
		if strings.Contains(f, "chat a-1") || strings.Contains(f, "chat b-1") {
			t.Errorf("compared all the same: %s", f)
		}
	}
}
