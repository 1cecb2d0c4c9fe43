package main

import "fmt"

// Attention of eight heads over rows that serve as key and value. Scores are
// [row][8 heads]: the lanes of a vector are heads, of two rows at a time.

const heads = 8

// cacheRows is a form in which attention finds its rows.
type cacheRows struct {
	suffix string // of kernel names
	bytes  int    // of a value
}

var cacheRowForms = []cacheRows{{"", 4}, {"F16", 2}}

// load loads a vector of values.
func (r cacheRows) load(a *asm, v vec, from string, reg int) {
	op := "VMOVUPS"
	if r.bytes == 2 {
		op = "VCVTPH2PS"
	}
	a.p("%s %s, %s", op, from, v.r(reg))
}

// strides loads the multiples of the row size of q or out: R8 = 1, R9 = 3, R10 = 5,
// R11 = 7 times the width of a head in bytes.
func (a *asm) strides() {
	a.arg("width", "R8")
	a.p("SHLQ $2, R8\nLEAQ (R8)(R8*2), R9\nLEAQ (R8)(R8*4), R10\nLEAQ (R9)(R8*4), R11")
}

// head is an operand in the memory of head h, from a base register on.
func head(base string, h, offset int) string {
	index := [heads]string{"", "(R8*1)", "(R8*2)", "(R9*1)", "(R8*4)", "(R10*1)", "(R9*2)", "(R11*1)"}[h]
	return fmt.Sprintf("%d(%s)%s", offset, base, index)
}

// scoresAVX512 multiplies two rows with eight heads: 16 sums across 16 lanes.
func scoresAVX512(a *asm, form cacheRows) {
	a.fn("attendScores"+form.suffix, "multiplies rows, two at a time, with eight heads; width is a multiple of 16.",
		"q *float32", "rows *unsafe.Pointer", "s *float32", "pairs int", "width int", "scale float32")
	a.arg("q", "SI")
	a.arg("rows", "DI")
	a.arg("s", "DX")
	a.arg("pairs", "CX")
	a.strides()
	a.p("VBROADCASTSS %s, Z31", a.params["scale"])
	a.loop("CX", func() {
		a.p("MOVQ (DI), R12\nMOVQ 8(DI), R13\nMOVQ SI, AX\nMOVQ R8, R15\nSHRQ $6, R15\nXORL BX, BX")
		for i := range 16 {
			a.p(zmm.zero(i))
		}
		a.loop("R15", func() {
			form.load(a, zmm, "(R12)(BX*1)", 16)
			form.load(a, zmm, "(R13)(BX*1)", 17)
			for h := range heads {
				x := 18 + h%4
				a.p("VMOVUPS %s, Z%d\nVFMADD231PS Z%d, Z16, Z%d\nVFMADD231PS Z%d, Z17, Z%d", head("AX", h, 0), x, x, h, x, 8+h)
			}
			a.p("ADDQ $64, AX\nADDQ $%d, BX", 16*form.bytes)
		})
		reduce16(a)
		a.p("VMULPS Z31, Z0, Z0\nVMOVUPS Z0, (DX)\nADDQ $64, DX\nADDQ $16, DI")
	})
	a.end()
}

// reduce16 puts the sum across Z<i> into lane i of Z0, each folded in halves.
func reduce16(a *asm) {
	fold := func(op string, lo, hi, x, y, dst int) {
		a.p("%s $0x%02x, Z%d, Z%d, Z16\n%s $0x%02x, Z%d, Z%d, Z17\nVADDPS Z16, Z17, Z%d", op, lo, y, x, op, hi, y, x, dst)
	}
	for e := range 4 {
		fold("VSHUFF64X2", 0x44, 0xee, e, 4+e, e)
		fold("VSHUFF64X2", 0x44, 0xee, 8+e, 12+e, 8+e)
		fold("VSHUFF32X4", 0x88, 0xdd, e, 8+e, e)
	}
	for e := 0; e < 4; e += 2 {
		a.p("VUNPCKLPD Z%d, Z%d, Z16\nVUNPCKHPD Z%d, Z%d, Z17\nVADDPS Z16, Z17, Z%d", e+1, e, e+1, e, e)
	}
	fold("VSHUFPS", 0x88, 0xdd, 0, 2, 0)
}

// scoresAVX2 takes one row and four heads at a time.
func scoresAVX2(a *asm, form cacheRows) {
	a.fn("attendScores"+form.suffix, "multiplies rows, two at a time, with eight heads; width is a multiple of 16.",
		"q *float32", "rows *unsafe.Pointer", "s *float32", "pairs int", "width int", "scale float32")
	a.arg("q", "SI")
	a.arg("rows", "DI")
	a.arg("s", "DX")
	a.arg("pairs", "CX")
	a.p("ADDQ CX, CX")
	a.strides()
	a.p("VBROADCASTSS %s, X15", a.params["scale"])
	a.loop("CX", func() {
		for h0 := 0; h0 < heads; h0 += 4 {
			a.p("MOVQ (DI), R12\nMOVQ SI, AX\nMOVQ R8, R15\nSHRQ $6, R15")
			for i := range 8 {
				a.p(ymm.zero(i))
			}
			a.loop("R15", func() {
				form.load(a, ymm, "(R12)", 8)
				form.load(a, ymm, fmt.Sprintf("%d(R12)", 8*form.bytes), 9)
				for h := range 4 {
					a.p("VFMADD231PS %s, Y8, Y%d\nVFMADD231PS %s, Y9, Y%d", head("AX", h0+h, 0), h, head("AX", h0+h, 32), 4+h)
				}
				a.p("ADDQ $64, AX\nADDQ $%d, R12", 16*form.bytes)
			})
			for h := range 4 {
				a.p("VADDPS Y%d, Y%d, Y%d", 4+h, h, h)
			}
			reduce8(a, 0, 1, 2, 3)
			a.p("VMULPS X15, X0, X0\nVMOVUPS X0, %d(DX)", 4*h0)
		}
		a.p("ADDQ $32, DX\nADDQ $8, DI")
	})
	a.end()
}

// reduce8 puts the sums across four vectors of eight lanes into X0. It uses Y8 to Y11.
func reduce8(a *asm, x0, x1, x2, x3 int) {
	a.p("VPERM2F128 $0x20, Y%d, Y%d, Y8\nVPERM2F128 $0x31, Y%d, Y%d, Y9\nVADDPS Y8, Y9, Y8", x2, x0, x2, x0)
	a.p("VPERM2F128 $0x20, Y%d, Y%d, Y9\nVPERM2F128 $0x31, Y%d, Y%d, Y10\nVADDPS Y9, Y10, Y9", x3, x1, x3, x1)
	a.p("VUNPCKLPD Y9, Y8, Y10\nVUNPCKHPD Y9, Y8, Y11\nVADDPS Y10, Y11, Y8")
	a.p("VSHUFPS $0x88, Y8, Y8, Y9\nVSHUFPS $0xdd, Y8, Y8, Y10\nVADDPS Y9, Y10, Y8\nVEXTRACTF128 $1, Y8, X9\nVUNPCKLPD X9, X8, X0")
}

// softmaxAVX512 has even rows in the lower half of a vector and odd ones in the
// upper half.
func softmaxAVX512(a *asm) {
	a.fn("attendSoftmax", "turns scores into weights, and finds what to divide the sums by.",
		"s *float32", "sinks *float32", "inv *float32", "n int")
	a.arg("s", "DI")
	a.arg("sinks", "SI")
	a.arg("inv", "DX")
	c := expConstants(a, zmm, 16)
	a.p("VBROADCASTF32X8 (SI), Z1\nMOVQ DI, R8")
	a.arg("n", "CX")
	a.loopWhile("CX", 2, func() { a.p("VMAXPS (R8), Z1, Z1\nADDQ $64, R8") })
	even := a.newLabel("even")
	a.p("VEXTRACTF64X4 $1, Z1, Y2\nVMAXPS Y2, Y1, Y1\nTESTQ CX, CX\nJZ %s\nVMAXPS (R8), Y1, Y1\n%s:", even, even)
	a.p("VSHUFF64X2 $0x44, Z1, Z1, Z1\n%s", zmm.zero(0))
	a.arg("n", "CX")
	a.loopWhile("CX", 2, func() {
		a.p("VMOVUPS (DI), Z2\nVSUBPS Z1, Z2, Z2")
		c.exp(a, zmm, 2, 3, 4, 5)
		a.p("VMOVUPS Z2, (DI)\nVADDPS Z2, Z0, Z0\nADDQ $64, DI")
	})
	a.p("VEXTRACTF64X4 $1, Z0, Y6")
	even = a.newLabel("even")
	a.p("TESTQ CX, CX\nJZ %s\nVMOVUPS (DI), Y2\nVSUBPS Y1, Y2, Y2", even)
	c.exp(a, ymm, 2, 3, 4, 5)
	a.p("VMOVUPS Y2, (DI)\nVADDPS Y2, Y0, Y0\n%s:", even)
	softmaxEnd(a, c)
}

func softmaxAVX2(a *asm) {
	a.fn("attendSoftmax", "turns scores into weights, and finds what to divide the sums by.",
		"s *float32", "sinks *float32", "inv *float32", "n int")
	a.arg("s", "DI")
	a.arg("sinks", "SI")
	a.arg("inv", "DX")
	c := expTable(a)
	a.p("VMOVUPS (SI), Y1\nMOVQ DI, R8")
	a.arg("n", "CX")
	a.loopWhile("CX", 1, func() { a.p("VMAXPS (R8), Y1, Y1\nADDQ $32, R8") })
	a.p("%s\n%s", ymm.zero(0), ymm.zero(6))
	a.arg("n", "CX")
	one := func(sum int) {
		a.p("VMOVUPS (DI), Y2\nVSUBPS Y1, Y2, Y2")
		c.exp(a, ymm, 2, 3, 4, 5)
		a.p("VMOVUPS Y2, (DI)\nVADDPS Y2, Y%d, Y%d\nADDQ $32, DI", sum, sum)
	}
	a.loopWhile("CX", 2, func() { one(0); one(6) })
	even := a.newLabel("even")
	a.p("TESTQ CX, CX\nJZ %s", even)
	one(0)
	a.p("%s:", even)
	softmaxEnd(a, c)
}

// softmaxEnd adds even rows (Y0), odd rows (Y6) and the sink.
func softmaxEnd(a *asm, c expConsts) {
	a.p("VADDPS Y6, Y0, Y0\nVMOVUPS (SI), Y2\nVSUBPS Y1, Y2, Y2")
	c.exp(a, ymm, 2, 3, 4, 5)
	a.p("VADDPS Y2, Y0, Y0\nVMOVUPS %s, Y2\nVDIVPS Y0, Y2, Y2\nVMOVUPS Y2, (DX)", c.reg(ymm, expOne))
	a.end()
}

// sumRows adds weighted rows: chunks of a row in registers, all rows per chunk.
func sumRows(a *asm, v vec, form cacheRows) {
	a.fn("attendSum"+form.suffix, "adds to out rows weighted for eight heads, and multiplies with inv; width is a multiple of 16.",
		"p *float32", "rows *unsafe.Pointer", "out *float32", "inv *float32", "n int", "width int")
	a.arg("out", "DX")
	a.arg("inv", "SI")
	a.strides()
	a.p("MOVQ R8, CX\nXORL BX, BX")
	chunk := func(vectors, together int) {
		for h0 := 0; h0 < heads; h0 += together {
			a.arg("p", "AX")
			a.arg("rows", "DI")
			a.arg("n", "R15")
			sum := func(h, i int) int { return h*vectors + i }
			wide := together * vectors
			for h := range together {
				for i := range vectors {
					a.p("VMOVUPS %s, %s", head("DX", h0+h, i*v.bytes()), v.r(sum(h, i)))
				}
			}
			a.loop("R15", func() {
				a.p("MOVQ (DI), R12")
				for i := range vectors {
					form.load(a, v, fmt.Sprintf("%d(R12)(BX*1)", i*v.lanes*form.bytes), wide+i)
				}
				for h := range together {
					b := wide + vectors + h%2
					a.p("VBROADCASTSS %d(AX), %s", 4*(h0+h), v.r(b))
					for i := range vectors {
						a.p("VFMADD231PS %s, %s, %s", v.r(b), v.r(wide+i), v.r(sum(h, i)))
					}
				}
				a.p("ADDQ $32, AX\nADDQ $8, DI")
			})
			for h := range together {
				b := wide + h%2
				a.p("VBROADCASTSS %d(SI), %s", 4*(h0+h), v.r(b))
				for i := range vectors {
					a.p("VMULPS %s, %s, %s\nVMOVUPS %s, %s", v.r(b), v.r(sum(h, i)), v.r(sum(h, i)), v.r(sum(h, i)), head("DX", h0+h, i*v.bytes()))
				}
			}
		}
		a.p("ADDQ $%d, BX\nADDQ $%d, DX", vectors*v.lanes*form.bytes, vectors*v.bytes())
	}
	if v.avx512() {
		a.loopWhile("CX", 128, func() { chunk(2, heads) })
		a.loopWhile("CX", 64, func() { chunk(1, heads) })
	} else {
		a.loopWhile("CX", 64, func() { chunk(2, heads/2) })
	}
	a.end()
}

// indexSum adds the weighted positive scores of eight heads, four rows at a time.
func indexSum(a *asm) {
	a.fn("indexSum", "adds weighted positive scores; n is a multiple of 4.", "s *float32", "w *float32", "dst *float32", "n int")
	a.arg("s", "DI")
	a.arg("w", "SI")
	a.arg("dst", "DX")
	a.arg("n", "CX")
	a.p("VMOVUPS (SI), Y15\n%s", ymm.zero(14))
	a.loopWhile("CX", 4, func() {
		for i := range 4 {
			a.p("VMOVUPS %d(DI), Y%d\nVMAXPS Y%d, Y14, Y%d\nVMULPS Y15, Y%d, Y%d", 32*i, i, i, i, i, i)
		}
		reduce8(a, 0, 1, 2, 3)
		a.p("VADDPS (DX), X0, X0\nVMOVUPS X0, (DX)\nADDQ $128, DI\nADDQ $16, DX")
	})
	a.end()
}
