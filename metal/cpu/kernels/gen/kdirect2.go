package main

import "fmt"

// Products with packed K-quants and their expansion for AVX2: 8 rows of the panel
// at a time, and two input rows per pass. Sums of byte products stay within 16
// bits where codes are small: 8*2*15*127 < 2^15.

// Registers: sums of two input rows for 32 rows of the panel, then those of a block.
const (
	ySum  = 0 // to 7
	yAcc  = 8 // to 9: integer products
	yHalf = 10
	yTmp  = 12 // to 14
	yMore = 15
)

// kFormat2 is a packed K-quant. SI is its current block, DI its header.
type kFormat2 struct {
	kFormat
	body2 func(a *asm, r, odd, T int)
}

var kFormats2 = []kFormat2{{kFormats[0], q4KAVX2}, {kFormats[1], q2KAVX2}, {kFormats[2], iq2AVX2}}

// forBlocks2 runs the body for T input rows, or for the expansion if T is 0.
func (f kFormat2) forBlocks2(a *asm, T int, step string) {
	a.loop("CX", func() {
		a.aheadNear(f.head)
		a.p("MOVQ SI, DI\nMOVQ SI, R15\nADDQ $%d, SI\nMOVL $%d, AX", f.head, kBlocks/f.unroll)
		a.loop("AX", func() {
			for odd := range f.unroll {
				a.aheadNear(f.block)
				for r := range 4 {
					f.body2(a, r, odd, T)
				}
				a.p("ADDQ $%d, SI\n%s", f.block, step)
			}
			if f.unroll == 2 {
				a.p("ADDQ $%d, R15", panelRows) // scales of two blocks
			}
		})
	})
}

// directAVX2 are products with any number of rows, and expansions.
func directAVX2(a *asm) {
	tablesAVX2(a)
	for _, f := range kFormats2 {
		a.fn("gemm"+f.name, "multiplies a packed K-quant.", "w unsafe.Pointer", "t *Tile", "supers int", "tokens int")
		if f.name == "IQ2" {
			a.p("LEAQ ·gridWords(SB), R14")
		}
		a.arg("t", "DX")
		a.arg("tokens", "R10")
		a.loopWhile("R10", 2, func() { f.pass(a, 2) })
		a.loopWhile("R10", 1, func() { f.pass(a, 1) })
		a.end()
		a.fn("expand"+f.name, "makes a PanelK of a packed K-quant.", "dst unsafe.Pointer", "src unsafe.Pointer", "supers int")
		a.arg("dst", "R8")
		a.arg("src", "SI")
		a.arg("supers", "CX")
		if f.name == "IQ2" {
			a.p("LEAQ ·gridWords(SB), R14")
		}
		f.forBlocks2(a, 0, fmt.Sprintf("ADDQ $%d, R8", kBlockBytes))
		a.end()
	}
}

// pass multiplies the panel with the next n rows of the tile DX.
func (f kFormat2) pass(a *asm, n int) {
	a.arg("w", "SI")
	a.arg("supers", "CX")
	a.p("XORL BX, BX")
	for t := range n {
		a.p("MOVQ %d(DX), %s", 8*t, inputs[t])
	}
	for i := range 4 * n {
		a.p(ymm.zero(ySum + i))
	}
	f.forBlocks2(a, n, fmt.Sprintf("ADDQ $%d, BX", actBlock))
	for t := range n {
		a.p("MOVQ %d(DX), AX", outPtrs+8*t)
		for r := range 4 {
			a.p("VMOVUPS Y%d, %d(AX)", ySum+4*t+r, 32*r)
		}
	}
	a.p("ADDQ $%d, DX", 8*n)
}

// tablesAVX2 defines constants of 32 bytes.
func tablesAVX2(a *asm) {
	same := func(name string, dwords ...uint32) {
		for i := range 8 * len(dwords) {
			a.p("DATA %s<>+%d(SB)/4, $0x%08x", name, 4*i, dwords[i/8])
		}
		a.p("GLOBL %s<>(SB), RODATA|NOPTR, $%d", name, 32*len(dwords))
	}
	same("flip", 0x80808080)
	same("minus", 0x80000000)
	same("low4", 0x0f0f0f0f)
	same("low2", 0x03030303)
	same("oneWords", 0x00010001)
	same("oneBytes", 0x01010101)
	same("half", 0x3f000000)
	same("quarter", 0x3e800000)
	var bits []uint32
	for g := range 8 {
		bits = append(bits, 0x01010101<<g)
	}
	same("signBits", bits...)
}

// widen makes float32 of the bytes of eight rows, times a scale of F16 at d.
func widen(a *asm, at string, shift, tmp, d int, reg int) {
	a.p("VPMOVZXBD %s, Y%d", at, reg)
	if shift > 0 {
		a.p("VPSRLD $%d, Y%d, Y%d", shift, reg, reg)
	}
	a.p("VCVTDQ2PS Y%d, Y%d\nVCVTPH2PS %d(DI), Y%d\nVMULPS Y%d, Y%d, Y%d", reg, reg, d, tmp, tmp, reg, reg)
}

// addScaled adds the integers in yAcc, times scale.
func addScaled(a *asm, r, T, scale int) {
	if T == 0 {
		a.p("VMOVUPS Y%d, %d(R8)", scale, 32*r)
	}
	for t := range T {
		a.p("VCVTDQ2PS Y%d, Y%d\nVBROADCASTSS %s, Y%d\nVMULPS Y%d, Y%d, Y%d\nVFMADD231PS Y%d, Y%d, Y%d",
			yAcc+t, yAcc+t, in(t, 0), yTmp+2, scale, yTmp+2, yTmp+2, yAcc+t, yTmp+2, ySum+4*t+r)
	}
}

// subtract subtracts an offset for half h.
func subtract(a *asm, r, h, T, offset int) {
	if T == 0 {
		a.p("VPXOR minus<>(SB), Y%d, Y%d\nVMOVUPS Y%d, %d(R8)", offset, yTmp+2, yTmp+2, (1+h)*4*panelRows+32*r)
	}
	for t := range T {
		a.p("VBROADCASTSS %s, Y%d\nVFNMADD231PS Y%d, Y%d, Y%d", in(t, actHalves+4*h), yTmp+2, yTmp+2, offset, ySum+4*t+r)
	}
}

// storeCodes writes group g of an expansion.
func storeCodes(a *asm, r, g, reg int) {
	a.p("VPXOR flip<>(SB), Y%d, Y%d\nVMOVDQU Y%d, %d(R8)", reg, reg, reg, 3*4*panelRows+group*g+32*r)
}

func q4KAVX2(a *asm, r, _, T int) {
	lo, hi, tmp := yHalf, yHalf+1, yTmp
	for t := range T {
		a.p(ymm.zero(yAcc + t))
	}
	for v := range 4 {
		a.p("VMOVDQU %d(SI), Y%d\nVPAND low4<>(SB), Y%d, Y%d\nVPSRLW $4, Y%d, Y%d\nVPAND low4<>(SB), Y%d, Y%d",
			64+group*v+32*r, hi, hi, lo, hi, hi, hi, hi)
		for i, codes := range []int{lo, hi} {
			for t := range T {
				a.p("VPBROADCASTD %s, Y%d\nVPMADDUBSW Y%d, Y%d, Y%d\nVPADDW Y%d, Y%d, Y%d",
					in(t, actCodes+4*(v+4*i)), tmp+t, tmp+t, codes, tmp+t, tmp+t, yAcc+t, yAcc+t)
			}
			if T == 0 {
				storeCodes(a, r, v+4*i, codes)
			}
		}
	}
	for t := range T {
		a.p("VPMADDWD oneWords<>(SB), Y%d, Y%d", yAcc+t, yAcc+t)
	}
	widen(a, fmt.Sprintf("%d(SI)", 8*r), 0, yTmp, 16*r, yHalf)
	addScaled(a, r, T, yHalf)
	widen(a, fmt.Sprintf("%d(SI)", panelRows+8*r), 0, yTmp, 2*panelRows+16*r, yHalf)
	for h := range 2 {
		subtract(a, r, h, T, yHalf)
	}
}

func q2KAVX2(a *asm, r, _, T int) {
	raw, codes, scale := yTmp, yTmp+1, yMore
	for h := range 2 {
		for t := range T {
			a.p(ymm.zero(yHalf + t))
		}
		// The scale twice, as words.
		a.p("VPMOVZXBD %d(SI), Y%d\nVPSLLD $28, Y%d, Y%d\nVPSRLD $28, Y%d, Y%d\nVPSLLD $16, Y%d, Y%d\nVPOR Y%d, Y%d, Y%d",
			panelRows*h+8*r, scale, scale, scale, scale, scale, scale, codes, codes, scale, scale)
		a.p("VMOVDQU %d(SI), Y%d", 64+group*h+32*r, raw)
		for i := range 4 {
			a.p("VPSRLW $%d, Y%d, Y%d\nVPAND low2<>(SB), Y%d, Y%d", 2*i, raw, codes, codes, codes)
			for t := range T {
				a.p("VPBROADCASTD %s, Y%d\nVPMADDUBSW Y%d, Y%d, Y%d\nVPADDW Y%d, Y%d, Y%d",
					in(t, actCodes+4*(4*h+i)), yTmp+2, yTmp+2, codes, yTmp+2, yTmp+2, yHalf+t, yHalf+t)
			}
			if T == 0 {
				a.p("VPMULLW Y%d, Y%d, Y%d", scale, codes, codes) // 3*15 fits a byte
				storeCodes(a, r, 4*h+i, codes)
			}
		}
		for t := range T {
			if h == 0 {
				a.p("VPMADDWD Y%d, Y%d, Y%d", scale, yHalf+t, yAcc+t)
			} else {
				a.p("VPMADDWD Y%d, Y%d, Y%d\nVPADDD Y%d, Y%d, Y%d", scale, yHalf+t, yHalf+t, yHalf+t, yAcc+t, yAcc+t)
			}
		}
	}
	a.p("VCVTPH2PS %d(DI), Y%d", 16*r, yHalf)
	addScaled(a, r, T, yHalf)
	for h := range 2 {
		widen(a, fmt.Sprintf("%d(SI)", panelRows*h+8*r), 4, yTmp, 2*panelRows+16*r, yHalf)
		subtract(a, r, h, T, yHalf)
	}
}

func iq2AVX2(a *asm, r, odd, T int) {
	points, signs, tmp, mask, grid := yHalf, yHalf+1, yTmp, yTmp+1, yTmp+2
	for t := range T {
		a.p(ymm.zero(yAcc + t))
	}
	a.p("VMOVDQU %d(SI), Y%d\nVMOVDQU %d(SI), Y%d", 32*r, points, group+32*r, signs)
	for g := range 8 {
		p := g / 2
		a.p("VPSLLD $%d, Y%d, Y%d\nVPSRLD $24, Y%d, Y%d\nVPCMPEQD Y%d, Y%d, Y%d", 24-8*p, points, tmp, tmp, tmp, mask, mask, mask)
		a.p("VPGATHERDD Y%d, %d(R14)(Y%d*8), Y%d", mask, 4*(g%2), tmp, grid)
		// -1 for negative coordinates, else 1.
		a.p("VMOVDQU signBits<>+%d(SB), Y%d\nVPAND Y%d, Y%d, Y%d\nVPCMPEQB Y%d, Y%d, Y%d\nVPOR oneBytes<>(SB), Y%d, Y%d",
			32*g, tmp, tmp, signs, mask, tmp, mask, mask, mask, mask)
		for t := range T {
			a.p("VPBROADCASTD %s, Y%d\nVPSIGNB Y%d, Y%d, Y%d\nVPMADDUBSW Y%d, Y%d, Y%d\nVPMADDWD oneWords<>(SB), Y%d, Y%d\nVPADDD Y%d, Y%d, Y%d",
				in(t, actCodes+4*g), tmp, mask, tmp, tmp, tmp, grid, tmp, tmp, tmp, tmp, yAcc+t, yAcc+t)
		}
		if T == 0 {
			a.p("VPSIGNB Y%d, Y%d, Y%d", mask, grid, grid)
			storeCodes(a, r, g, grid)
		}
	}
	a.p("VPMOVZXBD %d(R15), Y%d", 64+8*r, points)
	if odd == 0 {
		a.p("VPSLLD $28, Y%d, Y%d\nVPSRLD $28, Y%d, Y%d", points, points, points, points)
	} else {
		a.p("VPSRLD $4, Y%d, Y%d", points, points)
	}
	a.p("VCVTDQ2PS Y%d, Y%d\nVADDPS half<>(SB), Y%d, Y%d\nVCVTPH2PS %d(DI), Y%d\nVMULPS Y%d, Y%d, Y%d\nVMULPS quarter<>(SB), Y%d, Y%d",
		points, points, points, points, 16*r, tmp, tmp, points, points, points, points)
	addScaled(a, r, T, points)
	a.p(ymm.zero(mask))
	for h := range 2 { // what adding zero does: -0 becomes 0
		if T == 0 {
			a.p("VMOVUPS Y%d, %d(R8)", mask, (1+h)*4*panelRows+32*r)
		}
		for t := range T {
			a.p("VBROADCASTSS %s, Y%d\nVFMADD231PS Y%d, Y%d, Y%d", in(t, actHalves+4*h), tmp, tmp, mask, ySum+4*t+r)
		}
	}
}
