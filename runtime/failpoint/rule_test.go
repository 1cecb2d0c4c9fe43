package failpoint

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestParsePrintsBack holds rules in their canonical form: they parse, and
// print as they were written.
func TestParsePrintsBack(t *testing.T) {
	for _, text := range []string{
		"prefill.embed=err(Internal Error (00000001:Internal Error)):times=3:match=disk",
		"prefill.embed=metal(Internal,Internal Error (00000001:Internal Error),effect=partial,sticky=queue):times=1",
		"prefill.chunk(n=2)=metal(1)",
		"prefill.chunk=hang(10m0s)",
		"kv.write.payload(after=4096)=enospc",
		"kv.write.payload(after=1)=kill9:nth=2",
		"kv.payload.read=short(60%)",
		"kv.payload.read=short(16):match=entry(00ff)",
		"kv.payload.read=kill9:match=entry",
		"kv.payload.corrupt=flip(0):nth=1",
		"kv.payload.corrupt=zero(128,32):every",
		"kv.payload.corrupt=zero(128,32):every=2:times=4",
		"kv.fsync=eio:prob=0.25,7",
		"kv.fsync=eio:nth=3:every",
		"kv.fsync=eio:nth=3:every=2:times=4",
		"kv.unlink=eacces:nth=1",
		"kv.scan=hang",
		"kv.scan=err",
		"kv.journal=panic",
		"device.lost=err(a:b,c=d (e) f)",
		"session.reset=delay(1.5s):match=range(abc123)",
		"clock.jump=skew(-48h0m0s)",
		"clock.jump=skew(1h0m0s):nth=40",
	} {
		r, err := Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
			continue
		}
		if got := r.String(); got != text {
			t.Errorf("Parse(%q) prints %q", text, got)
		}
	}
}

// TestParseForms holds other ways to write a rule, and what they mean.
func TestParseForms(t *testing.T) {
	for text, want := range map[string]Rule{
		" kv.fsync=eio ":                  {Point: "kv.fsync", Action: Action{Kind: KindEIO}},
		"kv.write.payload=enospc:after=7": {Point: "kv.write.payload", After: 7, Action: Action{Kind: KindENOSPC}},
		"prefill.chunk=err:n=3":           {Point: "prefill.chunk", N: 3, Action: Action{Kind: KindErr}},
		"kv.fsync=err():every=1":          {Point: "kv.fsync", Trigger: Trigger{Every: 1}, Action: Action{Kind: KindErr}},
		"kv.fsync=delay(90s)":             {Point: "kv.fsync", Action: Action{Kind: KindDelay, Delay: 90 * time.Second}},
		"device.lost=metal(3,a, b (c,d),sticky=device)": {Point: "device.lost",
			Action: Action{Kind: KindMetal, Code: "3", Text: "a, b (c,d)", Sticky: "device"}},
	} {
		got, err := Parse(text)
		if err != nil {
			t.Errorf("Parse(%q): %v", text, err)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("Parse(%q):\n%s", text, d)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "POINT=ACTION"},
		{"kv.fsync", "POINT=ACTION"},
		{"kv.fsnc=eio", `unknown point "kv.fsnc"; known: clock.jump decode.step`},
		{"kv.fsync=explode", `unknown action "explode"; known: delay eacces eio enospc`},
		{"kv.fsync=eio:nht=1", `unknown key "nht"; known: after every match n nth prob times`},
		{"kv.fsync=eio:match=tape", `unknown match "tape"; known: disk memory cold entry`},
		{"kv.fsync=eio:match=disk(x)", "unknown match"},
		{"kv.fsync=eio:match=entry()", "unknown match"},
		{"kv.fsync=err(a", "not closed"},
		{"kv.fsync=err)a(", "closes nothing"},
		{"kv.fsync=err(a)b", "goes on after"},
		{"kv.fsync=eio(1)", "takes no argument"},
		{"kv.fsync=eio:nth=0", "want 1 to"},
		{"kv.fsync=eio:nth=-1", "not a number"},
		{"kv.fsync=eio:nth=1:nth=2", "twice"},
		{"kv.fsync=eio:nth=1:prob=0.5", "exclude"},
		{"kv.fsync=eio:every=2:prob=0.5", "exclude"},
		{"kv.fsync=lie", "unknown action"},
		{"device.lost=err:nth=2:every", "exclude"},
		{"kv.fsync=eio:times", "needs a value"},
		{"kv.fsync=eio:prob=1.5", "probability"},
		{"kv.fsync=eio:prob=nan", "probability"},
		{"kv.fsync=eio:prob=0.5,x", "bad seed"},
		{"kv.fsync=flip(3)", "see bytes"},
		{"kv.fsync=metal(1)", "device points only"},
		{"kv.fsync(k=1)=eio", "after a point"},
		{"kv.write.payload(after=1)=eio:after=2", "twice"},
		{"prefill.chunk(n=1)=err:after=2", "exclude"},
		{"kv.payload.read=short(101%)", "more than 100%"},
		{"kv.payload.read=zero(1)", "zero(OFF,N)"},
		{"kv.payload.read=flip(99999999999999999999)", "not a number"},
		{"kv.payload.read=delay(0s)", "duration"},
		{"kv.payload.read=delay(48h)", "duration"},
		{"clock.jump=skew(0s)", "other than 0"},
		{"clock.jump=skew(-200000h)", "either way"},
		{"clock.jump=eio", "skew applies to a clock"},
		{"kv.fsync=skew(1h)", "skew applies to a clock"},
		{"device.lost=metal(Melted)", "known: Internal Timeout"},
		{"device.lost=metal(1,effect=odd)", "known: none all partial scramble"},
		{"device.lost=metal(1,sticky=odd)", "known: no queue device process"},
		{"device.lost=metal(1,effect=all,text)", "comes before"},
		{"kv.fsync=err(a\nb)", "control characters"},
		{"kv.fsync=err(" + strings.Repeat("x", maxRuleBytes) + ")", "limit"},
	} {
		_, err := Parse(c.text)
		if err == nil {
			t.Errorf("Parse(%q): no error", c.text)
		} else if !errors.Is(err, ErrSyntax) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("Parse(%q): %v; want %q", c.text, err, c.want)
		}
	}
}

// randomRule draws any rule that Parse could return.
func randomRule(t *rapid.T) Rule {
	var r Rule
	in := rapid.SampledFrom(catalogue).Draw(t, "point")
	r.Point = in.Name
	text := rapid.StringMatching(`([a-zA-Z0-9 .:,;=-]{0,6}(\([a-z:,]{0,5}\))?){0,3}`)
	allowed := []Kind{KindErr, KindENOSPC, KindEIO, KindEACCES, KindDelay, KindHang, KindKill9, KindPanic}
	if in.Data {
		allowed = append(allowed, KindFlip, KindZero, KindShort)
	}
	if in.Device {
		allowed = append(allowed, KindMetal)
	}
	if in.Clock {
		allowed = []Kind{KindSkew}
	}
	a := Action{Kind: rapid.SampledFrom(allowed).Draw(t, "kind")}
	num := rapid.Int64Range(0, 1<<62)
	switch a.Kind {
	case KindErr:
		a.Text = strings.TrimSpace(text.Draw(t, "text"))
	case KindMetal:
		a.Code = rapid.SampledFrom(append(codeNames(), "1", "77")).Draw(t, "code")
		a.Text = rapid.StringMatching(`[a-z ]{0,5}(\([a-z:,]{0,5}\))?`).Draw(t, "metal text")
		a.Effect = rapid.SampledFrom(append(metalEffects, "")).Draw(t, "effect")
		a.Sticky = rapid.SampledFrom(append(metalSticky, "")).Draw(t, "sticky")
	case KindShort:
		if a.Pct = rapid.Bool().Draw(t, "pct"); a.Pct {
			a.Count = rapid.Int64Range(0, 100).Draw(t, "count")
		} else {
			a.Count = num.Draw(t, "count")
		}
	case KindFlip:
		a.Offset = num.Draw(t, "off")
	case KindZero:
		a.Offset, a.Count = num.Draw(t, "off"), num.Draw(t, "count")
	case KindDelay, KindHang:
		a.Delay = time.Duration(rapid.Int64Range(1, int64(maxDelay)).Draw(t, "delay"))
	}
	if a.Kind == KindSkew {
		a.Delay = time.Duration(rapid.Int64Range(1, int64(maxSkew)).Draw(t, "skew"))
		if rapid.Bool().Draw(t, "back") {
			a.Delay = -a.Delay
		}
	}
	r.Action = a
	switch rapid.IntRange(0, 2).Draw(t, "filter") {
	case 1:
		r.N = rapid.IntRange(1, 1<<30).Draw(t, "n")
	case 2:
		r.After = rapid.Int64Range(1, 1<<62).Draw(t, "after")
	}
	switch rapid.IntRange(0, 4).Draw(t, "choose") {
	case 4:
		if !in.Device {
			r.Every = rapid.IntRange(1, 9).Draw(t, "every")
		}
		fallthrough
	case 1:
		r.Nth = rapid.IntRange(1, 1<<30).Draw(t, "nth")
	case 2:
		r.Every = rapid.IntRange(1, 9).Draw(t, "every")
	case 3:
		r.Prob = rapid.Float64Range(1e-9, 1).Draw(t, "prob")
		r.Seed = rapid.Uint64().Draw(t, "seed")
	}
	r.Times = rapid.IntRange(0, 9).Draw(t, "times")
	r.Match = rapid.SampledFrom([]string{"", "disk", "memory", "cold", "entry", "range", "entry(0a)", "range(ff)"}).Draw(t, "match")
	return r
}

func TestRuleRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := randomRule(t)
		got, err := Parse(r.String())
		if err != nil {
			t.Fatalf("Parse(%q): %v", r, err)
		}
		if d := cmp.Diff(r, got); d != "" {
			t.Fatalf("%q:\n%s", r, d)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add("prefill.embed=err(Internal Error (00000001:Internal Error)):times=3:match=disk")
	f.Add("kv.write.payload(after=9)=short(3):prob=0.5,1")
	f.Add("device.lost=metal(1,a,effect=all,sticky=no):every")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		again, err := Parse(r.String())
		if err != nil {
			t.Fatalf("Parse(%q) prints %q, which does not parse: %v", text, r, err)
		}
		if again != r || again.String() != r.String() {
			t.Fatalf("Parse(%q) prints %q, which is another rule", text, r)
		}
	})
}
