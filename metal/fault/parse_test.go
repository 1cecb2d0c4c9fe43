package fault

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"ds4/metal"
)

func TestParse(t *testing.T) {
	for spec, want := range map[string][]Rule{
		"": nil, " \n": nil,
		"at=commit": {{}},
		`at=commit,label=^graph (embed|head),n=3,code=1,text="Internal Error (00000001:Internal Error)",effect=partial,sticky=queue`: {{
			Label: "^graph (embed|head)", N: 3, Code: metal.CodeInternal, Text: "Internal Error (00000001:Internal Error)",
			Effect: EffectPartial, Sticky: StickyQueue,
		}},
		"at=wait, hang=true ; at=alloc,label=kv ":       {{At: AtWait, Hang: true}, {At: AtAlloc, Label: "kv"}},
		"code=timeout;code=0;code=99":                   {{Code: metal.CodeTimeout}, {Code: CodeZero}, {Code: 99}},
		`label="a,b;c\"d"`:                              {{Label: `a,b;c"d`}},
		"text=Internal Error (00000001:Internal Error)": {{Text: "Internal Error (00000001:Internal Error)"}},
		"at=wait,delay=2s,pass=true":                    {{At: AtWait, Delay: 2 * time.Second, Pass: true}},
		"prob=0.25,seed=7,every=2,times=3,chunk=4":      {{Prob: 0.25, Seed: 7, Every: 2, Times: 3, Chunk: 4}},
		"phase=prefill|canary,source=disk,range=ab,entry=*,op=x,effect=partial,first=2": {{
			Phase: "prefill|canary", Source: "disk", Range: "ab", Entry: "*", Op: "x", Effect: EffectPartial, First: 2}},
		"panic=false,kill=1": {{Kill: true}},
	} {
		got, err := Parse(spec)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("Parse(%q): %v\n%s", spec, err, diff)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for spec, want := range map[string]string{
		"commit":                    "KEY=VALUE",
		"at=commit,":                "KEY=VALUE",
		"at=commit;;":               "KEY=VALUE",
		"at=":                       "no value",
		"at=library":                "known: commit wait alloc wrap pipeline",
		"lable=x":                   "known: at label",
		"effect=most":               "known: none all partial scramble",
		"sticky=yes":                "known: no queue device process",
		"code=weird":                "1=internal",
		"code=-1":                   "no code",
		"n=-1":                      "invalid syntax",
		"n=1,n=2":                   "given twice",
		`text="abc`:                 "string without end",
		`text="abc"def`:             "follows a string",
		"label=(":                   "missing closing",
		"prob=1.5":                  "0 to 1",
		"prob=NaN":                  "0 to 1",
		"delay=-1s":                 "delay",
		"delay=2h":                  "1h0m0s",
		"source=tape":               "known: disk memory cold",
		"hang=true":                 "at=wait",
		"panic=true,kill=true":      "only one",
		"at=alloc,effect=all":       "command buffers",
		"at=wrap,sticky=device":     "command buffers",
		"first=2":                   "effect=partial",
		"at=commit;at=commit,n=x":   "rule 2",
		strings.Repeat("n=1;", 100): "more than 64 rules",
		strings.Repeat("x", 70<<10): "limit",
	} {
		if _, err := Parse(spec); !errors.Is(err, ErrRule) || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%.60q): error %v, want one with %q", spec, err, want)
		}
	}
}

// anyRule draws rules that Validate accepts.
func anyRule(t *rapid.T) Rule {
	text := rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[ a-z0-9,;"\\|()=.é]{1,12}`), rapid.String())
	n := rapid.OneOf(rapid.Just(0), rapid.IntRange(0, math.MaxInt32))
	r := Rule{
		At: rapid.SampledFrom([]At{AtCommit, AtWait, AtAlloc, AtWrap, AtPipeline}).Draw(t, "at"), Label: text.Draw(t, "label"),
		Phase: text.Draw(t, "phase"), Source: rapid.SampledFrom([]string{"", "disk", "cold"}).Draw(t, "source"),
		Range: text.Draw(t, "range"), Entry: text.Draw(t, "entry"), Chunk: n.Draw(t, "chunk"),
		N: n.Draw(t, "n"), Every: n.Draw(t, "every"), Times: n.Draw(t, "times"),
		Prob: rapid.Float64Range(0, 1).Draw(t, "prob"), Seed: rapid.Uint64().Draw(t, "seed"),
		Code: metal.Code(rapid.IntRange(-1, 20).Draw(t, "code")), Text: text.Draw(t, "text"),
		Delay: time.Duration(rapid.Int64Range(0, int64(MaxDelay)).Draw(t, "delay")),
	}
	if r.At == AtCommit || r.At == AtWait {
		r.Op = text.Draw(t, "op")
		r.Effect = Effect(rapid.IntRange(0, 3).Draw(t, "effect"))
		r.Sticky = Sticky(rapid.IntRange(0, 3).Draw(t, "sticky"))
	}
	if r.Effect == EffectPartial {
		r.First = n.Draw(t, "first")
	}
	switch rapid.IntRange(0, 4).Draw(t, "verb") {
	case 1:
		r.Pass = true
	case 2:
		r.Panic = true
	case 3:
		r.Kill = true
	case 4:
		r.Hang = r.At == AtWait
	}
	return r
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var rules []Rule
		for range rapid.IntRange(1, 3).Draw(t, "rules") {
			if r := anyRule(t); r.Validate() == nil { // text may be no regular expression
				rules = append(rules, r)
			}
		}
		spec := Format(rules)
		got, err := Parse(spec)
		if diff := cmp.Diff(rules, got); err != nil || diff != "" {
			t.Fatalf("%s: %v\n%s", spec, err, diff)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(`at=commit,label=REGEXP,n=3,code=1,text="a;b",effect=partial,sticky=queue;at=wait,hang=true`)
	f.Add(`code=0,delay=1m0.5s,pass=true`)
	f.Fuzz(func(t *testing.T, spec string) {
		rules, err := Parse(spec)
		if err != nil {
			if !errors.Is(err, ErrRule) {
				t.Fatalf("error %v wraps nothing known", err)
			}
			return
		}
		printed := Format(rules)
		again, err := Parse(printed)
		if err != nil {
			t.Fatalf("%q prints as %q: %v", spec, printed, err)
		}
		if diff := cmp.Diff(rules, again); diff != "" {
			t.Fatalf("%q prints as %q:\n%s", spec, printed, diff)
		}
	})
}
