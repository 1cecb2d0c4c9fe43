package engine

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"ds4/runtime/gguf"
	"ds4/runtime/model"
)

// goldenCase is one prompt with reference logits that transformers computed in
// float32 on the dequantised weights.
type goldenCase struct {
	Name      string  `json:"name"`
	Tokens    []int32 `json:"tokens"`
	Positions []int   `json:"positions"`
	Row0      int     `json:"row0"` // of the first position in logits.f32
	Argmax    []int32 `json:"argmax_all"`
	Greedy    []int32 `json:"greedy"`
}

func goldenCases(t *testing.T) []goldenCase {
	t.Helper()
	data, err := os.ReadFile("testdata/golden/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []goldenCase
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	return cases
}

// floatRowsOf reads a file of little-endian float32 rows.
func floatRowsOf(t *testing.T, path string, width int) [][]float32 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]float32
	for part := range slices.Chunk(data, 4*width) {
		r := make([]float32, width)
		for i := range r {
			r[i] = math.Float32frombits(binary.LittleEndian.Uint32(part[4*i:]))
		}
		rows = append(rows, r)
	}
	return rows
}

// compared is what a run of all golden prompts against the reference gave.
type compared struct {
	rms           []float64 // per listed position
	same, total   int       // argmax over all positions
	answersEqual  map[string]bool
	rowArgmaxSame bool
}

func compareGolden(t *testing.T, n model.Numerics) compared {
	t.Helper()
	if testing.Short() {
		t.Skip("thousands of positions of the embedded model")
	}
	m := tinyModel(t)
	e := newEngine(t, m, 0, Options{ContextTokens: 4096, Numerics: n})
	want := floatRowsOf(t, "testdata/golden/logits.f32", m.Vocab)
	c := compared{answersEqual: map[string]bool{}, rowArgmaxSame: true}
	for _, g := range goldenCases(t) {
		s := newSession(t, e)
		got := prefillLogits(t, s, g.Tokens)
		for i, p := range g.Positions {
			ref := want[g.Row0+i]
			r := relativeRMS(got[p], ref)
			c.rms = append(c.rms, r)
			if argmax(got[p]) != argmax(ref) {
				c.rowArgmaxSame = false
				t.Logf("%s position %d: argmax %d, want %d, relative rms %.2g", g.Name, p, argmax(got[p]), argmax(ref), r)
			}
		}
		for p, l := range got {
			c.total++
			if argmax(l) == g.Argmax[p] {
				c.same++
			}
		}
		answer := greedy(t, s, len(g.Greedy), 1)
		c.answersEqual[g.Name] = slices.Equal(answer, g.Greedy)
		if !c.answersEqual[g.Name] {
			t.Logf("%s: greedy %v, want %v", g.Name, answer, g.Greedy)
		}
	}
	t.Logf("%s: relative rms median %.3g, max %.3g; argmax equal at %d of %d positions",
		n, median(c.rms), slices.Max(c.rms), c.same, c.total)
	return c
}

func TestGoldenReference(t *testing.T) {
	c := compareGolden(t, model.Reference)
	if r := slices.Max(c.rms); r > 1e-4 {
		t.Errorf("largest relative rms %.3g, want at most 1e-4", r)
	}
	if !c.rowArgmaxSame {
		t.Error("argmax differs at a listed position")
	}
	if share := float64(c.same) / float64(c.total); share < 0.999 {
		t.Errorf("argmax equal at %.4f of the positions, want 0.999", share)
	}
	for name, ok := range c.answersEqual {
		if !ok {
			t.Errorf("%s: greedy continuation differs", name)
		}
	}
}

func TestGoldenInt8(t *testing.T) {
	c := compareGolden(t, model.Numerics{ActInt8: true})
	if r := median(c.rms); r > 0.02 {
		t.Errorf("median relative rms %.3g, want at most 0.02", r)
	}
}

func TestGoldenProduction(t *testing.T) {
	c := compareGolden(t, model.Production)
	if share := float64(c.same) / float64(c.total); share < 0.97 {
		t.Errorf("argmax equal at %.4f of the positions, want 0.97", share)
	}
	for _, name := range []string{"who", "cut", "recall"} {
		if !c.answersEqual[name] {
			t.Errorf("%s: greedy answer differs", name)
		}
	}
}

// TestDS4Reference compares with logits that the original engine's CPU backend
// computed for a model of which only the ratio-4 layer is active.
func TestDS4Reference(t *testing.T) {
	f, err := gguf.Open("testdata/ds4ref/iso_ratio4.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m := loadModel(t, f)
	text, err := os.ReadFile("testdata/ds4ref/tokens.txt")
	if err != nil {
		t.Fatal(err)
	}
	var tokens []int32
	for word := range strings.FieldsSeq(string(text)) {
		id, err := strconv.Atoi(word)
		if err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, int32(id))
	}
	e := newEngine(t, m, 0, Options{ContextTokens: 512, Numerics: model.Production})
	want := floatRowsOf(t, "testdata/ds4ref/iso_ratio4.logits.f32", m.Vocab)
	got := allLogits(t, e, tokens)
	var rms []float64
	same := 0
	for i := range want {
		rms = append(rms, relativeRMS(got[i], want[i]))
		if argmax(got[i]) == argmax(want[i]) {
			same++
		}
	}
	t.Logf("%d positions: relative rms median %.3g, max %.3g; argmax equal at %d", len(want), median(rms), slices.Max(rms), same)
	if r := median(rms); r > 1e-3 {
		t.Errorf("median relative rms %.3g, want at most 1e-3", r)
	}
	if share := float64(same) / float64(len(want)); share < 0.97 {
		t.Errorf("argmax equal at %.4f of the positions, want 0.97", share)
	}
}
