package faults

import "testing"

func TestFiringRoundTrip(t *testing.T) {
	for _, text := range []string{
		"prefill.embed=err(Internal Error (00000001:Internal Error)):every:match=disk",
		`kv.open=err(say "no" \ twice)`,
		"kv.write.payload(after=4096)=kill9",
	} {
		r, err := ParseRule(text)
		if err != nil {
			t.Fatal(err)
		}
		const stamp = "1124 03:12:50 ds4-server: "
		if f, ok := ParseFiring(stamp + r.ArmedLine()); !ok || f.Fired || f.Rule != r.String() {
			t.Errorf("%s: armed line gives %+v %t", text, f, ok)
		}
		if f, ok := ParseFiring(stamp + r.FiredLine(12)); !ok || !f.Fired || f.N != 12 || f.Rule != r.String() {
			t.Errorf("%s: fired line gives %+v %t", text, f, ok)
		}
	}
	for _, line := range []string{
		"", "fault fired rule=x n=1", `fault fired rule="x"`, `fault armed rule="x" n=1`, `fault mended rule="x"`,
		`fault fired rule="x\q" n=1`, `fault fired rule="x`,
	} {
		if f, ok := ParseFiring(line); ok {
			t.Errorf("%q is taken for %+v", line, f)
		}
	}
}

func TestParseRuleRefuses(t *testing.T) {
	for _, text := range []string{"", "prefill.embed", "no.such.point=err", "kv.open=melt", "kv.open=err:sometimes"} {
		if _, err := ParseRule(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

func TestFailsDevice(t *testing.T) {
	for rule, want := range map[string]bool{"prefill.chunk=metal(1)": true, "device.lost=err": true, "prefill.chunk=delay(1s)": false, "prefill.chunk=hang": true, "kv.open=eacces": false, "rubbish": false} {
		if FailsDevice(rule) != want {
			t.Errorf("FailsDevice(%q) is %t", rule, !want)
		}
	}
}

func TestOutcomes(t *testing.T) {
	for _, o := range Outcomes() {
		if got, err := ParseOutcome(string(o)); err != nil || got != o {
			t.Errorf("%s: %s %v", o, got, err)
		}
	}
	if _, err := ParseOutcome("fine"); err == nil {
		t.Error("an unknown outcome is accepted")
	}
	if Wrong.Good() || Stuck.Good() || Inconclusive.Good() || !Refused.Good() {
		t.Error("good outcomes are mixed up")
	}
}

func FuzzParseFiring(f *testing.F) {
	f.Add(`fault fired rule="a" n=1`)
	f.Add(`x fault armed rule="a\"b"`)
	f.Fuzz(func(t *testing.T, line string) {
		if got, ok := ParseFiring(line); ok && got.N < 0 {
			t.Fatal(got)
		}
	})
}
