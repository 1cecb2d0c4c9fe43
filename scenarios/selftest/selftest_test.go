package selftest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ds4/metal/quant"
	"ds4/reports"
	"ds4/runtime/engine"
	"ds4/runtime/gguf"
	"ds4/runtime/kvstore"
	"ds4/runtime/model"
	"ds4/runtime/model/tiny"
	"ds4/runtime/tokenizer"
	"ds4/scenarios"
)

func memoryScenario() *scenarios.Scenario {
	return &scenarios.Scenario{ID: "m", Title: "t", Lane: scenarios.LaneMemory, Memory: &scenarios.Memory{Segments: 6, Crashes: 150}}
}

func TestMemoryPasses(t *testing.T) {
	for seed := range uint64(3) {
		res := Memory(t.Context(), memoryScenario(), seed)
		if res.Verdict != reports.Pass || res.Metrics["crashes"].Samples[0] != 150 {
			t.Errorf("seed %d: %s %v", seed, res.Verdict, res.Failures)
		}
	}
}

// The lane must notice a store that is broken.
func TestMemoryNotices(t *testing.T) {
	for name, b := range map[string]kvstore.Unsafe{
		"no sync":                   {NoSync: true},
		"no rename and no checksum": {NoRename: true, NoChecksum: true},
	} {
		s := memoryScenario()
		s.Memory.Crashes = 3000
		res := memory(t.Context(), s, 1, b)
		if res.Verdict != reports.Fail {
			t.Errorf("%s: %s", name, res.Verdict)
		} else {
			t.Logf("%s: %s", name, strings.Join(res.Failures, " "))
		}
	}
}

// The other model must be one: same shapes, other weights, every time the same.
func TestOtherModel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.gguf")
	if err := OtherModel(path, "weights", 5); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	orig, err := tiny.Open()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range orig.Tensors() {
		b, ok := f.Tensor(a.Name)
		if !ok || b.Offset != a.Offset || b.Type != a.Type {
			t.Fatalf("tensor %s is missing or has moved", a.Name)
		}
		if same := bytes.Equal(a.Data, b.Data); same != (a.Type != quant.Q8_0) {
			t.Errorf("tensor %s of type %s: equal %t", a.Name, a.Type, same)
		}
	}
	again := path + "2"
	if err := OtherModel(again, "weights", 5); err != nil {
		t.Fatal(err)
	}
	x, _ := os.ReadFile(path)
	y, _ := os.ReadFile(again)
	if !bytes.Equal(x, y) {
		t.Error("the same seed makes another file")
	}
}

// The other kinds must load, keep what they promise to keep, and have
// an identity of their own.
func TestOtherModelKinds(t *testing.T) {
	base := load(t, "")
	sizes := map[string]int{"tokenizer": 0, "more-layers": 1, "fewer-layers": -1, "weights": 0}
	for _, kind := range scenarios.ModelKinds() {
		path := filepath.Join(t.TempDir(), kind)
		if err := OtherModel(path, kind, 1); err != nil {
			t.Fatal(err)
		}
		m := load(t, path)
		if got, want := m.layers, base.layers+sizes[kind]; got != want {
			t.Errorf("%s: %d layers, want %d", kind, got, want)
		}
		if same := m.tokenizer == base.tokenizer; same != (kind != "tokenizer") {
			t.Errorf("%s: the tokenizer is the embedded model's: %t", kind, same)
		}
		if sizes[kind] == 0 && m.bytes != base.bytes {
			t.Errorf("%s: %d bytes, the embedded model has %d", kind, m.bytes, base.bytes)
		}
		if m.identity == base.identity {
			t.Errorf("%s: the identity is the embedded model's", kind)
		}
	}
	if err := OtherModel(filepath.Join(t.TempDir(), "x"), "melody", 1); err == nil {
		t.Error("an unknown kind is accepted")
	}
}

type loaded struct {
	layers              int
	bytes               int64
	tokenizer, identity [32]byte
}

func load(t *testing.T, path string) loaded {
	t.Helper()
	open := tiny.Open
	if path != "" {
		open = func() (*gguf.File, error) { return gguf.Open(path) }
	}
	f, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := model.Load(f)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.FromGGUF(f)
	if err != nil {
		t.Fatal(err)
	}
	n := model.Numerics{}
	return loaded{m.Config.Layers, f.Size(), tok.Fingerprint(), engine.StateIdentity(m, n, tok.Fingerprint(), 1)}
}
