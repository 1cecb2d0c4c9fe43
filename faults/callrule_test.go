package faults

import (
	"strings"
	"testing"

	"ds4/runtime/failpoint"
)

var testOps = []string{"write", "fsync", "rename"}

// TestCallRulePrintsBack holds rules in their canonical form, and what they mean.
func TestCallRulePrintsBack(t *testing.T) {
	for text, want := range map[string]CallRule{
		"write:path=*.kv:nth=3:part=50%:enospc": {Op: "write", Path: "*.kv", Trigger: failpoint.Trigger{Nth: 3}, Part: 50, PartPct: true,
			Action: failpoint.Action{Kind: failpoint.KindENOSPC}},
		"fsync:every:eio":           {Op: "fsync", Trigger: failpoint.Trigger{Every: 1}, Action: failpoint.Action{Kind: failpoint.KindEIO}},
		"fsync:nth=2:every:eio":     {Op: "fsync", Trigger: failpoint.Trigger{Nth: 2, Every: 1}, Action: failpoint.Action{Kind: failpoint.KindEIO}},
		"any:prob=0.5,7:kill9":      {Op: AnyOp, Trigger: failpoint.Trigger{Prob: 0.5, Seed: 7}, Action: failpoint.Action{Kind: failpoint.KindKill9}},
		"rename:times=2:eacces":     {Op: "rename", Trigger: failpoint.Trigger{Times: 2}, Action: failpoint.Action{Kind: failpoint.KindEACCES}},
		"write:err(no (a:b)=c)":     {Op: "write", Action: failpoint.Action{Kind: failpoint.KindErr, Text: "no (a:b)=c"}},
		"write:part=9:short(3)":     {Op: "write", Part: 9, Action: failpoint.Action{Kind: failpoint.KindShort, Count: 3}},
		"write:flip(12)":            {Op: "write", Action: failpoint.Action{Kind: failpoint.KindFlip, Offset: 12}},
		"write:zero(5,6)":           {Op: "write", Action: failpoint.Action{Kind: failpoint.KindZero, Offset: 5, Count: 6}},
		"fsync:lie":                 {Op: "fsync", Action: failpoint.Action{Kind: failpoint.KindLie}},
		"fsync:hang":                {Op: "fsync", Action: failpoint.Action{Kind: failpoint.KindHang}},
		"fsync:path=/a/b:delay(1s)": {Op: "fsync", Path: "/a/b", Action: failpoint.Action{Kind: failpoint.KindDelay, Delay: 1e9}},
	} {
		got, err := ParseCall(text, testOps)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got != want || got.String() != text {
			t.Errorf("%s: %+v, prints %s", text, got, got)
		}
		if f, ok := ParseFiring("x " + got.FiredLine(3)); !ok || f.Rule != text || f.N != 3 {
			t.Errorf("%s: fired line %q", text, got.FiredLine(3))
		}
	}
}

func TestCallRuleRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                         `unknown operation ""; known: any write fsync rename`,
		"wrote:eio":                `unknown operation "wrote"; known: any write fsync rename`,
		"write":                    "no action; known: delay eacces eio enospc err",
		"write:melt":               `unknown action "melt"; known: delay eacces`,
		"write:melt:eio":           "known keys: part path every nth prob times",
		"write:pth=*.kv:eio":       "known keys: part path every nth prob times",
		"write:metal(1)":           "unknown action",
		"write:panic":              "unknown action",
		"write:eio:enospc":         `"enospc" after the action eio`,
		"write:nth=1:nth=2:eio":    `"nth" twice`,
		"write:nth:eio":            "needs a value",
		"write:everything:eio":     "unknown action",
		"write:path=[:eio":         "no pattern",
		"write:path=:eio":          "no pattern",
		"write:path=**/x:eio":      "no more than *",
		"write:part=0:eio":         "more than nothing",
		"write:part=200%:eio":      "more than 100%",
		"write:prob=.5:every:eio":  "prob excludes",
		"write:err(a":              "not closed",
		"write:err(a\nb)":          "control characters",
		"write:nth=9999999999:eio": "want 1 to",
	} {
		if _, err := ParseCall(text, testOps); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestCallRuleMatches(t *testing.T) {
	r, err := ParseCall("write:path=*.kv:part=50%:eio", testOps)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Matches("write", "/a/b.kv") || r.Matches("write", "/a/b.json") || r.Matches("fsync", "/a/b.kv") || r.Done(9) != 4 {
		t.Errorf("%s does not match what it says", r)
	}
	r.Op, r.Path = AnyOp, "/a/*"
	if !r.Matches("rename", "/a/b.kv") || r.Matches("rename", "/x/a/b.kv") {
		t.Errorf("%s does not match what it says", r)
	}
}

func FuzzParseCall(f *testing.F) {
	for _, text := range []string{"write:path=*.kv:nth=3:part=50%:enospc", "fsync:nth=2:every:eio", "any:prob=0.5,7:err(a (b:c))", "rename:zero(1,2)"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseCall(text, testOps)
		if err != nil {
			return
		}
		again, err := ParseCall(r.String(), testOps)
		if err != nil || again != r || again.String() != r.String() {
			t.Fatalf("%q prints %q, which is %q, %v", text, r, again, err)
		}
		r.Matches("write", text)
	})
}
