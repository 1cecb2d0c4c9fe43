package run

import (
	"os"
	"path/filepath"
	"testing"

	"ds4/scenarios"
)

// TestUntouched: a server that ends at its very first start is none to judge, unless the
// scenario has done something to it by then.
func TestUntouched(t *testing.T) {
	tests := []struct {
		name string
		do   func(p *rep, info *startInfo)
		want bool
	}{
		{"nothing", func(*rep, *startInfo) {}, true},
		{"a model of its own", func(p *rep, _ *startInfo) { p.model = "m.gguf" }, true},
		{"another model", func(p *rep, _ *startInfo) {
			if err := p.swapModel(&scenarios.SwapModel{Kind: "layers"}); err != nil {
				t.Error(err)
			}
		}, false},
		{"a fault", func(_ *rep, info *startInfo) { info.faults = []string{"kv.open=eio"} }, false},
		{"a system call", func(_ *rep, info *startInfo) { info.calls = []string{"fsync:eio"} }, false},
		{"a file", func(p *rep, _ *startInfo) {
			if err := os.WriteFile(filepath.Join(p.kv, "x"), nil, 0o600); err != nil {
				t.Error(err)
			}
		}, false},
		{"an earlier start", func(p *rep, _ *startInfo) { p.ready = true }, false},
		{"a limit", func(p *rep, _ *startInfo) { p.s.Lane = scenarios.LaneLimits }, false},
	}
	for _, tt := range tests {
		r := &runner{tmp: t.TempDir(), opt: Options{OtherModel: func(string, string, uint64) error { return nil }}}
		p := &rep{r: r, s: &scenarios.Scenario{Lane: scenarios.LaneProcess}, kv: t.TempDir()}
		var info startInfo
		tt.do(p, &info)
		if got := p.untouched(info); got != tt.want {
			t.Errorf("%s: untouched is %t", tt.name, got)
		}
	}
}
