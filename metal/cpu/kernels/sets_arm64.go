package kernels

import (
	"runtime"
	"unsafe"

	"golang.org/x/sys/cpu"
)

// dotprodSet has assembler where most of the time goes. The rest is plain Go, which
// the compiler gives fused multiply-adds on arm64.
var dotprodSet = func() Set {
	s := Scalar
	s.Name = "dotprod"
	// Not through a func value: the tile would escape.
	for n := 1; n <= TileTokens; n++ {
		s.gemmQ8[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmQ8DotProd(w, t, blocks, n) }
		s.gemmK[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmKDotProd(w, t, blocks, n) }
		s.gemmI8[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmI8DotProd(w, t, blocks, n) }
		s.gemmF32[n] = func(w unsafe.Pointer, t *Tile, cols int) { gemmF32DotProd(w, t, cols, n) }
		s.gemmF16[n] = func(w unsafe.Pointer, t *Tile, cols int) { gemmF16DotProd(w, t, cols, n) }
		s.gemmBF16[n] = func(w unsafe.Pointer, t *Tile, cols int) { gemmBF16DotProd(w, t, cols, n) }
	}
	for n := 1; n <= DirectTokens; n++ {
		s.gemmQ4K[n] = func(w unsafe.Pointer, t *Tile, supers int) { gemmQ4KDotProd(w, t, supers, n) }
		s.gemmQ2K[n] = func(w unsafe.Pointer, t *Tile, supers int) { gemmQ2KDotProd(w, t, supers, n) }
		s.gemmIQ2[n] = func(w unsafe.Pointer, t *Tile, supers int) { gemmIQ2DotProd(w, t, supers, n) }
	}
	s.expandQ4K, s.expandQ2K, s.expandIQ2 = expandQ4KDotProd, expandQ2KDotProd, expandIQ2DotProd
	s.quantRow, s.quantExact = quantRowDotProd, quantExactDotProd
	s.attendScores = [...]scoresFunc{attendScoresDotProd, attendScoresF16DotProd}
	s.attendSum = [...]sumFunc{attendSumDotProd, attendSumF16DotProd}
	s.indexAdd = indexAddDotProd
	return s
}()

// i8mmSet is dotprodSet with other products of integers.
var i8mmSet = func() Set {
	s := dotprodSet
	s.Name = "i8mm"
	for n := 1; n < fewestPairs; n++ {
		s.gemmQ8[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmQ8I8MM(w, t, blocks, n) }
		s.gemmK[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmKI8MM(w, t, blocks, n) }
		s.gemmI8[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmI8I8MM(w, t, blocks, n) }
	}
	for n := fewestPairs; n <= TileTokens; n++ {
		s.gemmQ8[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmQ8PairsI8MM(w, t, blocks, n) }
		s.gemmK[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmKPairsI8MM(w, t, blocks, n) }
		s.gemmI8[n] = func(w unsafe.Pointer, t *Tile, blocks int) { gemmI8PairsI8MM(w, t, blocks, n) }
	}
	return s
}()

// fewestPairs is how many input rows are multiplied in pairs at least: with fewer,
// rearranging the weights costs more instructions than it saves.
const fewestPairs = 3

// hasDotProd reports the extension. Every Mac with an arm64 processor has it, also
// where a sandbox keeps the program from asking.
func hasDotProd() bool { return cpu.ARM64.HasASIMDDP || runtime.GOOS == "darwin" }

func archSets() []*Set {
	switch {
	case hasDotProd() && cpu.ARM64.HasI8MM:
		return []*Set{&i8mmSet, &dotprodSet}
	case hasDotProd():
		return []*Set{&dotprodSet}
	}
	return nil
}
