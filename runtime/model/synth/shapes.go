package synth

import (
	"fmt"
	"slices"
	"strings"

	"ds4/metal/quant"
)

// shapes are the models that Named knows, without types.
var shapes = map[string]Spec{
	// The layers of DeepSeek V4 Flash, few of them and with few experts.
	"flash-slice": {
		Ratios: []int{0, 0, 4, 128, 4}, Dim: 4096, Vocab: 8192,
		Heads: 64, HeadDim: 512, RotDim: 64, QRank: 1024, ORank: 1024, OGroups: 8,
		Window: 128, IndexHeads: 64, IndexTopK: 512,
		Experts: 32, ExpertsUsed: 6, ExpertDim: 2048, HashLayers: 1, HC: 4,
	},
	// The embedded model.
	"tiny": {
		Ratios: []int{0, 0, 4, 128, 4, 128, 4}, Dim: 256, Vocab: 8192,
		Heads: 8, HeadDim: 192, RotDim: 64, QRank: 128, ORank: 64, OGroups: 4,
		Window: 128, IndexHeads: 4, IndexTopK: 128,
		Experts: 8, ExpertsUsed: 2, ExpertDim: 256, HashLayers: 3, HC: 4,
	},
}

// quants are the types of routed experts: gate and up, then down. All other large
// matrices are Q8_0, as in published files.
var quants = map[string][2]quant.Type{
	"q8_0": {quant.Q8_0, quant.Q8_0},
	"q4":   {quant.Q4_K, quant.Q4_K},
	"q2":   {quant.IQ2_XXS, quant.Q2_K},
}

// Shapes and Quants are the names that Named knows.
func Shapes() []string { return sortedKeys(shapes) }
func Quants() []string { return sortedKeys(quants) }

func sortedKeys[T any](m map[string]T) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Named is a model of a known shape and mix of types, made of random blocks.
func Named(shape, mix string, seed uint64) (Spec, error) {
	s, ok := shapes[shape]
	if !ok {
		return s, fmt.Errorf("synth: shape %q is unknown, want %s", shape, strings.Join(Shapes(), ", "))
	}
	types, ok := quants[mix]
	if !ok {
		return s, fmt.Errorf("synth: quantisation %q is unknown, want %s", mix, strings.Join(Quants(), ", "))
	}
	s.Seed, s.Blocks = seed, true
	s.Matrix, s.Control, s.Expert, s.Down = quant.Q8_0, quant.F16, types[0], types[1]
	if block := s.Expert.BlockSize(); s.Dim%block != 0 || s.ExpertDim%s.Down.BlockSize() != 0 {
		return s, fmt.Errorf("synth: rows of shape %s are no multiple of the blocks of %s", shape, mix)
	}
	return s, nil
}
