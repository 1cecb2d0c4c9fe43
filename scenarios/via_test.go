package scenarios

import (
	"strings"
	"testing"
)

func TestViaChecks(t *testing.T) {
	const head = "id: x\ntitle: t\nlane: process\nexpect: [{outcome: recovered}]\nsteps:\n  - start: {}\n  - chat: {prompt: {text: a}, via: "
	for _, c := range []struct{ via, says string }{
		{"{cut_after: 3}, stream: true}", ""},
		{"{stall_after: 3, stall: 1s, rate: 100, times: 2}, stream: true}", ""},
		{"{half_close: true}}", ""},
		{"{rate: 5000}}", ""},
		{"{}, stream: true}", "it does nothing"},
		{"{cut_after: 3}}", "want stream: true"},
		{"{cut_after: 3, reset_after: 1}, stream: true}", "want one of"},
		{"{stall: 1s}, stream: true}", "want events to wait for"},
		{"{rate: 1}}", "at least 16"},
		{"{cut_afer: 1}}", `did you mean "cut_after"?`},
	} {
		_, err := Load([]byte(head+c.via+"\n"), "x.yaml")
		if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", c.via, err, c.says)
		}
	}
}
