package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ds4/metal/cpu"
	"ds4/metal/quant"
	"ds4/runtime/config"
	"ds4/runtime/engine"
	"ds4/runtime/gguf"
	"ds4/runtime/model"
	"ds4/runtime/model/synth"
	"ds4/runtime/model/tiny"
)

func tinyModel(t *testing.T) *model.Model {
	t.Helper()
	f, err := tiny.Open()
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPlanMemory(t *testing.T) {
	mod := tinyModel(t)
	m := &config.Model{Context: 4096, PrefillChunk: 64, Numerics: model.Production}
	session, scratch, err := engine.EstimateBytes(mod, engineOptions(m))
	if err != nil {
		t.Fatal(err)
	}
	fixed := scratch + memoryReserve
	for _, c := range []struct {
		available uint64
		want      int
	}{{fixed + 10*session, 4}, {fixed + 4*session, 4}, {fixed + 4*session - 1, 3}, {fixed + session, 1}} {
		p, err := planMemory(mod, m, 4, c.available, "test")
		if err != nil || p.sessions != c.want {
			t.Errorf("%d bytes: %d sessions, %v; want %d", c.available, p.sessions, err, c.want)
		}
	}
	for _, available := range []uint64{0, fixed, fixed + session - 1} {
		if p, err := planMemory(mod, m, 4, available, "test"); err == nil {
			t.Errorf("%d bytes: %d sessions, want a refusal", available, p.sessions)
		}
	}
	m.PrefillChunk = engine.MaxChunkTokens + 1
	var usage *usageError
	if _, err := planMemory(mod, m, 1, 1<<40, "test"); !errors.As(err, &usage) {
		t.Errorf("a chunk beyond the engine's limit: %v", err)
	}
}

// TestPlanPacks: packed weights count, and cost no session unless that was asked for.
func TestPlanPacks(t *testing.T) {
	mod := tinyModel(t)
	m := &config.Model{Context: 4096, PrefillChunk: 64, Numerics: model.Production}
	session, scratch, err := engine.EstimateBytes(mod, engineOptions(m))
	if err != nil {
		t.Fatal(err)
	}
	opt := engineOptions(m)
	opt.Pack, opt.PackK = true, true
	packed := engine.PackedBytes(mod, opt, cpu.PackedBytes)
	if packed < 16<<20 || packed > 32<<20 {
		t.Fatalf("%d bytes of packed weights", packed)
	}
	fixed := scratch + memoryReserve + packed
	for _, c := range []struct {
		mode      string
		available uint64
		sessions  int
		packed    bool
	}{
		{config.PackAuto, fixed + 2*session, 2, true}, {config.PackAuto, fixed + 2*session - 1, 2, false},
		{config.PackOff, fixed + 2*session, 2, false},
		{config.PackOn, fixed + 2*session, 2, true}, {config.PackOn, fixed + 2*session - 1, 1, true},
	} {
		m.Pack = c.mode
		p, err := planMemory(mod, m, 2, c.available, "test")
		if err != nil || p.sessions != c.sessions || p.options(m).Pack != c.packed {
			t.Errorf("%+v: %+v, %v", c, p, err)
		}
	}
	if p, err := planMemory(mod, m, 2, fixed+session-1, "test"); err == nil {
		t.Errorf("no room for packed weights: %+v, want a refusal", p)
	}
}

// TestRefusalNamesWhatFits: the context that the refusal names fits, the next does not.
func TestRefusalNamesWhatFits(t *testing.T) {
	mod := tinyModel(t)
	m := &config.Model{Context: 1 << 20, PrefillChunk: 64, Numerics: model.Production}
	const available = memoryReserve + 48<<20
	_, err := planMemory(mod, m, 1, available, "test")
	if err == nil {
		t.Fatal("a million tokens fit into 48 MiB")
	}
	found := regexp.MustCompile(`fits is --ctx (\d+)`).FindStringSubmatch(err.Error())
	if found == nil {
		t.Fatalf("no advice in: %v", err)
	}
	m.Context, _ = strconv.Atoi(found[1])
	if _, err := planMemory(mod, m, 1, available, "test"); err != nil {
		t.Errorf("the advice does not fit: %v", err)
	}
	m.Context++
	if _, err := planMemory(mod, m, 1, available, "test"); err == nil {
		t.Error("the advice is not the largest")
	}
	if _, err := planMemory(mod, m, 1, 0, "test"); err == nil || !strings.Contains(err.Error(), "128.0 MiB are kept for what is no session") || !strings.Contains(err.Error(), "no context fits") {
		t.Errorf("nothing available: %v", err)
	}
}

func TestMemoryBudget(t *testing.T) {
	if n, source := memoryBudget(&config.Model{MemoryMB: 100}); n != 100<<20+memoryReserve || source != "--memory-mb, and what is kept" {
		t.Errorf("%d from %s", n, source)
	}
	if n, source := memoryBudget(&config.Model{}); n < 1<<20 {
		t.Errorf("this machine has %d bytes, says %s", n, source)
	}
}

func TestFormatBytes(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", 3 << 30: "3.00 GiB"} {
		if got := formatBytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// TestPlanPacksKQuants: where K-quants do not fit beside the sessions, the other
// weights are packed without them.
func TestPlanPacksKQuants(t *testing.T) {
	spec := synth.Small(1)
	spec.Dim, spec.ExpertDim, spec.Expert, spec.Down = 256, 256, quant.Q4_K, quant.Q4_K
	w, err := synth.Writer(spec)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	if _, err := w.WriteTo(&buf); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Parse(buf.Bytes(), "synthetic")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := model.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	m := &config.Model{Context: 4096, PrefillChunk: 64, Numerics: model.Production, Pack: config.PackAuto}
	session, scratch, err := engine.EstimateBytes(mod, engineOptions(m))
	if err != nil {
		t.Fatal(err)
	}
	opt := engineOptions(m)
	opt.Pack = true
	some := engine.PackedBytes(mod, opt, cpu.PackedBytes)
	opt.PackK = true
	all := engine.PackedBytes(mod, opt, cpu.PackedBytes)
	if all <= some {
		t.Fatalf("%d bytes with K-quants, %d without", all, some)
	}
	for _, c := range []struct{ beside, packed uint64 }{{all, all}, {all - 1, some}, {some, some}, {some - 1, 0}} {
		p, err := planMemory(mod, m, 1, scratch+memoryReserve+session+c.beside, "test")
		if err != nil || p.packed != c.packed || p.options(m).PackK != (c.packed == all) {
			t.Errorf("%d bytes beside a session: %+v, %v, want %d packed", c.beside, p, err, c.packed)
		}
	}
	opt.Numerics = model.Reference
	if n := engine.PackedBytes(mod, opt, cpu.PackedBytes); n != some {
		t.Errorf("%d bytes for float32 activations, want %d: K-quants have no packed form for them", n, some)
	}
}

func TestPackingLog(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	now, lines := time.Unix(0, 0), []string{}
	packing := packingLog(ctx, func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }, func() time.Time { return now })
	for done := range uint64(10) {
		if err := packing(done<<20, 10<<20); err != nil {
			t.Fatal(err)
		}
		now = now.Add(packingEvery / 4)
	}
	want := []string{"packing weights 40 % (4.0 MiB of 10.0 MiB)", "packing weights 80 % (8.0 MiB of 10.0 MiB)"}
	if !slices.Equal(lines, want) {
		t.Errorf("log %q, want %q", lines, want)
	}
	cancel()
	if err := packing(0, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v after the start was given up", err)
	}
}
