package kernels

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

var avx512Set = Set{
	Name:     "avx512vnni",
	prefetch: prefetchLines,
	quantRow: quantRowAVX512, quantExact: quantExactAVX512,
	gemmQ8:   [...]gemmFunc{nil, gemmQ8x1AVX512, gemmQ8x2AVX512, gemmQ8x3AVX512, gemmQ8x4AVX512, gemmQ8x5AVX512, gemmQ8x6AVX512},
	gemmK:    [...]gemmFunc{nil, gemmKx1AVX512, gemmKx2AVX512, gemmKx3AVX512, gemmKx4AVX512, gemmKx5AVX512, gemmKx6AVX512},
	gemmI8:   [...]gemmFunc{nil, gemmI8x1AVX512, gemmI8x2AVX512, gemmI8x3AVX512, gemmI8x4AVX512, gemmI8x5AVX512, gemmI8x6AVX512},
	gemmF32:  [...]gemmFunc{nil, gemmF32x1AVX512, gemmF32x2AVX512, gemmF32x3AVX512, gemmF32x4AVX512, gemmF32x5AVX512, gemmF32x6AVX512},
	gemmF16:  [...]gemmFunc{nil, gemmF16x1AVX512, gemmF16x2AVX512, gemmF16x3AVX512, gemmF16x4AVX512, gemmF16x5AVX512, gemmF16x6AVX512},
	gemmBF16: [...]gemmFunc{nil, gemmBF16x1AVX512, gemmBF16x2AVX512, gemmBF16x3AVX512, gemmBF16x4AVX512, gemmBF16x5AVX512, gemmBF16x6AVX512},

	gemmQ4K: [...]gemmFunc{nil, gemmQ4Kx1AVX512, gemmQ4Kx2AVX512, gemmQ4Kx3AVX512, gemmQ4Kx4AVX512},
	gemmQ2K: [...]gemmFunc{nil, gemmQ2Kx1AVX512, gemmQ2Kx2AVX512, gemmQ2Kx3AVX512, gemmQ2Kx4AVX512},

	attendScores:  [...]scoresFunc{attendScoresAVX512, attendScoresF16AVX512},
	attendSoftmax: attendSoftmaxAVX512,
	attendSum:     [...]sumFunc{attendSumAVX512, attendSumF16AVX512},
	indexSum:      indexSumAVX512, indexAdd: indexAddAVX512,

	rowRMS:     rowRMSAVX512,
	rowNorm:    rowNormAVX512,
	swiglu:     swigluAVX512,
	axpy:       axpyAVX512,
	rotate:     rotateAVX512,
	mix4:       mix4AVX512,
	apply4:     apply4AVX512,
	pool:       poolAVX512,
	roundFP8:   roundFP8AVX512,
	roundF16:   roundF16AVX512,
	narrowF16:  narrowF16AVX512,
	hyperGates: hyperGatesAVX512,
	roundFP4:   roundFP4AVX512,
	hadamard:   hadamardAVX512,
	above:      aboveAVX512,
	unpackQ4:   unpackQ4AVX512,
	unpackQ2:   unpackQ2AVX512,
	unpackIQ2:  unpackIQ2AVX512,
	spread:     spreadAVX512,
	expandQ4K:  expandQ4KAVX512,
	expandQ2K:  expandQ2KAVX512,
	expandIQ2:  expandIQ2AVX2,
}

var avx2Set = Set{
	Name:     "avx2",
	prefetch: prefetchLines,
	quantRow: quantRowAVX2, quantExact: quantExactAVX2,
	gemmQ8:   [...]gemmFunc{nil, gemmQ8x1AVX2, gemmQ8x2AVX2, gemmQ8x3AVX2, gemmQ8x4AVX2, gemmQ8x5AVX2, gemmQ8x6AVX2},
	gemmK:    [...]gemmFunc{nil, gemmKx1AVX2, gemmKx2AVX2, gemmKx3AVX2, gemmKx4AVX2, gemmKx5AVX2, gemmKx6AVX2},
	gemmI8:   [...]gemmFunc{nil, gemmI8x1AVX2, gemmI8x2AVX2, gemmI8x3AVX2, gemmI8x4AVX2, gemmI8x5AVX2, gemmI8x6AVX2},
	gemmF32:  [...]gemmFunc{nil, gemmF32x1AVX2, gemmF32x2AVX2, gemmF32x3AVX2, gemmF32x4AVX2, gemmF32x5AVX2, gemmF32x6AVX2},
	gemmF16:  [...]gemmFunc{nil, gemmF16x1AVX2, gemmF16x2AVX2, gemmF16x3AVX2, gemmF16x4AVX2, gemmF16x5AVX2, gemmF16x6AVX2},
	gemmBF16: [...]gemmFunc{nil, gemmBF16x1AVX2, gemmBF16x2AVX2, gemmBF16x3AVX2, gemmBF16x4AVX2, gemmBF16x5AVX2, gemmBF16x6AVX2},

	attendScores:  [...]scoresFunc{attendScoresAVX2, attendScoresF16AVX2},
	attendSoftmax: attendSoftmaxAVX2,
	attendSum:     [...]sumFunc{attendSumAVX2, attendSumF16AVX2},
	indexSum:      indexSumAVX2, indexAdd: indexAddAVX2,

	rowRMS:    rowRMSAVX2,
	rowNorm:   rowNormAVX2,
	swiglu:    swigluAVX2,
	axpy:      axpyAVX2,
	rotate:    rotateAVX2,
	mix4:      mix4AVX2,
	apply4:    apply4AVX2,
	pool:      poolAVX2,
	roundFP8:  roundFP8AVX2,
	roundF16:  roundF16AVX2,
	narrowF16: narrowF16AVX2,

	// Of little weight: plain Go.
	hyperGates: hyperGates,
	roundFP4:   roundFP4,
	hadamard:   hadamard,
	above:      aboveAVX2,
	unpackQ4:   unpackQ4,
	unpackQ2:   unpackQ2,
	unpackIQ2:  unpackIQ2,
	spread:     spread,
	expandQ4K:  expandQ4KAVX2,
	expandQ2K:  expandQ2KAVX2,
	expandIQ2:  expandIQ2AVX2,
}

// init adds what is made in a loop, and what needs VBMI and VBMI2. All but the first
// processors with VNNI have both; the one with VBMI alone lacks VNNI.
func init() {
	for n := 1; n <= DirectTokens; n++ {
		// Not through a func value: the tile would escape.
		avx2Set.gemmQ4K[n] = func(w unsafe.Pointer, t *Tile, supers int) { gemmQ4KAVX2(w, t, supers, n) }
		avx2Set.gemmQ2K[n] = func(w unsafe.Pointer, t *Tile, supers int) { gemmQ2KAVX2(w, t, supers, n) }
		avx2Set.gemmIQ2[n] = func(w unsafe.Pointer, t *Tile, supers int) { gemmIQ2AVX2(w, t, supers, n) }
	}
	avx512Set.gemmIQ2 = avx2Set.gemmIQ2
	if cpu.X86.HasAVX512VBMI && cpu.X86.HasAVX512VBMI2 {
		avx512Set.gemmIQ2 = [...]gemmFunc{nil, gemmIQ2x1AVX512, gemmIQ2x2AVX512, gemmIQ2x3AVX512, gemmIQ2x4AVX512}
		avx512Set.expandIQ2 = expandIQ2AVX512
	}
}

func archSets() []*Set {
	var sets []*Set
	if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL && cpu.X86.HasAVX512VNNI {
		sets = append(sets, &avx512Set)
	}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && hasF16C() {
		sets = append(sets, &avx2Set)
	}
	return sets
}

// prefetchLines asks for cache lines, of which there is at least one.
func prefetchLines(p uintptr, lines int)

// cpuidFeatures is ECX of CPUID leaf 1.
func cpuidFeatures() (ecx uint32)

// hasF16C asks for what x/sys does not know. The system saves the registers if
// it does so for AVX2.
func hasF16C() bool { return cpuidFeatures()>>29&1 != 0 }
