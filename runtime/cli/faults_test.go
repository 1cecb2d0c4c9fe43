package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ds4/metal"
	"ds4/metal/cpu"
	"ds4/metal/fault"
	"ds4/runtime/config"
	"ds4/runtime/failpoint"
)

const seedText = "Internal Error (00000001:Internal Error)"

func TestDeviceRule(t *testing.T) {
	embed := fault.Rule{At: fault.AtWait, Phase: phasePrefill, Label: "^graph embed tokens$"}
	chunk := fault.Rule{At: fault.AtWait, Phase: phasePrefill, Label: "^graph output head$"}
	with := func(r fault.Rule, change func(*fault.Rule)) fault.Rule {
		change(&r)
		return r
	}
	for _, c := range []struct {
		text string
		want fault.Rule
	}{
		{"prefill.embed=err(" + seedText + "):times=3:match=disk", with(embed, func(r *fault.Rule) {
			r.Code, r.Text, r.Times, r.Source = metal.CodeInternal, seedText, 3, "disk"
		})},
		{"prefill.embed(n=2)=kill9", with(embed, func(r *fault.Rule) { r.Chunk, r.Kill = 2, true })},
		{"prefill.chunk(n=3)=err:nth=2", with(chunk, func(r *fault.Rule) { r.Chunk, r.N = 3, 2 })},
		{"prefill.chunk=hang", with(chunk, func(r *fault.Rule) { r.Hang = true })},
		{"prefill.chunk=hang(5s)", with(chunk, func(r *fault.Rule) { r.Pass, r.Delay = true, 5e9 })},
		{"prefill.chunk=delay(20ms):every", with(chunk, func(r *fault.Rule) { r.Pass, r.Delay, r.Every = true, 2e7, 1 })},
		{"decode.step=panic:prob=0.5,7", fault.Rule{At: fault.AtWait, Phase: phaseDecode, Label: "^graph output head$", Panic: true, Prob: 0.5, Seed: 7}},
		{"device.lost=err", fault.Rule{At: fault.AtWait, Code: metal.CodeDeviceRemoved}},
		{"device.lost=err(gone)", fault.Rule{At: fault.AtWait, Code: metal.CodeInternal, Text: "gone"}},
		{"device.lost=metal(Timeout,slow, very,effect=scramble,sticky=device):match=entry", fault.Rule{
			At: fault.AtWait, Code: metal.CodeTimeout, Text: "slow, very", Effect: fault.EffectScramble, Sticky: fault.StickyDevice, Entry: "*",
		}},
		{"device.lost=metal(0):match=range(ab12)", fault.Rule{At: fault.AtWait, Code: fault.CodeZero, Range: "ab12"}},
		{"device.alloc=err(no memory):nth=4", fault.Rule{At: fault.AtAlloc, Code: metal.CodeInternal, Text: "no memory", N: 4}},
	} {
		r, err := failpoint.Parse(c.text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := deviceRule(r)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		c.want.Origin = r.String()
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s:\n%s", c.text, d)
		}
	}
	for text, want := range map[string]string{
		"prefill.embed=eio":                    "eio is no failure of a device",
		"decode.step(n=3)=err":                 "use nth=K here",
		"device.lost(after=3)=err":             "after=BYTES applies to files",
		"device.alloc=hang":                    "hang needs at=wait",
		"device.alloc=metal(1,x,effect=all)":   "effect, sticky and op apply to command buffers",
		"prefill.chunk=delay(2h)":              "delay is 2h0m0s",
		"device.alloc=metal(1,x,sticky=queue)": "effect, sticky and op apply",
	} {
		r, err := failpoint.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := deviceRule(r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestEveryDevicePointIsTranslated: a point that the catalogue gives to the device
// must not be forgotten here.
func TestEveryDevicePointIsTranslated(t *testing.T) {
	for _, info := range failpoint.Catalogue() {
		if !info.Device {
			continue
		}
		if _, err := deviceRule(failpoint.Rule{Point: info.Name, Action: failpoint.Action{Kind: failpoint.KindErr}}); err != nil {
			t.Errorf("%s: %v", info.Name, err)
		}
	}
}

// TestEveryPointIsExecuted: a point that nothing executes would make a rule that
// cannot fire.
func TestEveryPointIsExecuted(t *testing.T) {
	for _, info := range failpoint.Catalogue() {
		if !info.Device && !slices.Contains(failpoint.Points(), info.Name) {
			t.Errorf("%s: the catalogue gives it to %s, and nothing here executes it", info.Name, info.Owner)
		}
	}
}

// TestArmFaults: the seed's message comes out word for word, and every rule says
// in the log that it is armed and that it fired.
func TestArmFaults(t *testing.T) {
	t.Cleanup(failpoint.Disarm)
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	var lines []string
	log := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	rule, err := failpoint.Parse("prefill.embed=err(" + seedText + "):times=1")
	if err != nil {
		t.Fatal(err)
	}
	faults := &config.Faults{Rules: []failpoint.Rule{rule}, Unsafe: []string{"no-rename"}}
	if _, err := armFaults(faults, nil, dev, log); !errors.Is(err, config.ErrFaultsOff) {
		t.Errorf("without permission: %v", err)
	}
	wrapped, err := armFaults(faults, []string{"DS4_ENABLE_FAULTS=1", "DS4_METAL_FAULT=at=alloc,label=nothing"}, dev, log)
	if err != nil {
		t.Fatal(err)
	}
	metal.SetScope(wrapped, metal.Scope{Phase: "prefill", Source: "disk", Chunk: 1})
	cb, err := wrapped.NewCommandBuffer("graph embed tokens")
	if err != nil {
		t.Fatal(err)
	}
	if err := cb.Commit(); err != nil {
		t.Fatal(err)
	}
	err = cb.Wait(t.Context())
	cb.Release()
	if want := "Metal graph embed tokens failed: " + seedText; err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	want := []string{
		"WARNING: safeguards are switched off (no-rename): this process loses data and answers on purpose",
		`fault armed rule="prefill.embed=err(` + seedText + `):times=1"`,
		`fault armed rule="at=alloc,label=nothing"`,
		`fault fired rule="prefill.embed=err(` + seedText + `):times=1" n=1`,
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
	same, err := armFaults(&config.Faults{}, nil, dev, log)
	if err != nil || same != metal.Device(dev) {
		t.Errorf("no faults: the device is wrapped or %v", err)
	}
	if _, err := armFaults(&config.Faults{}, []string{"DS4_ENABLE_FAULTS=1", "DS4_METAL_FAULT=at=nowhere"}, dev, log); err == nil {
		t.Error("a bad plan is accepted")
	}
}
