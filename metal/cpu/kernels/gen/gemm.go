package main

import "fmt"

// Matrix products of a panel of 32 weight rows with up to six input rows. The
// lanes of a vector are weight rows, so nothing is ever added across a vector.

const (
	tileTokens = 6
	panelRows  = 32
	outPtrs    = 8 * tileTokens // offset of Tile.Out
	group      = 4 * panelRows  // four codes of each row
	codeBytes  = 8 * group
	actBlock   = 48 // see ActBytes
	actSum     = 4  // -128 times the sum of the codes
	actHalves  = 8  // the sums of each half, as values
	actCodes   = 16
)

// inputs are the registers of the input rows; BX is the common offset.
var inputs = [tileTokens]string{"R8", "R9", "R10", "R11", "R12", "R13"}

// tileIn loads the pointers of T input rows. DX keeps the tile.
func (a *asm) tileIn(T int) {
	a.arg("t", "DX")
	for t := range T {
		a.p("MOVQ %d(DX), %s", 8*t, inputs[t])
	}
	a.p("XORL BX, BX")
}

// in is an operand in input row t.
func in(t, offset int) string { return fmt.Sprintf("%d(%s)(BX*1)", offset, inputs[t]) }

// int8Panel is a panel of codes with headers: scales, and perhaps offsets.
type int8Panel struct {
	name    string
	header  int  // bytes
	wide    bool // scales are float32, else F16
	offsets bool
}

var (
	panelQ8 = int8Panel{"gemmQ8", 2 * panelRows, false, false}
	panelK  = int8Panel{"gemmK", 3 * 4 * panelRows, true, true} // with offsets of both halves
	panelI8 = int8Panel{"gemmI8", 4 * panelRows, true, false}
)

// few reports whether a product with T rows comes with weights that are in no cache.
func (p int8Panel) few(T int) bool { return p == panelQ8 && T <= directTokens }

// scales loads the scales of 2*lanes rows from row on.
func (p int8Panel) scales(a *asm, v vec, row, reg int) {
	for r := range 2 {
		if p.wide {
			a.p("VMOVUPS %d(SI), %s", 4*(row+r*v.lanes), v.r(reg+r))
		} else {
			a.p("VCVTPH2PS %d(SI), %s", 2*(row+r*v.lanes), v.r(reg+r))
		}
	}
}

// addOffsets adds what the offsets of T rows from t0 on contribute; sum names the
// registers of the sums, b a free one.
func (p int8Panel) addOffsets(a *asm, v vec, row, reg, b, t0, T int, sum func(t, r int) int) {
	if !p.offsets {
		return
	}
	for half := range 2 {
		for r := range 2 {
			a.p("VMOVUPS %d(SI), %s", (1+half)*4*panelRows+4*(row+r*v.lanes), v.r(reg+r))
		}
		for t := range T {
			a.p("VBROADCASTSS %s, %s", in(t0+t, actHalves+4*half), v.r(b))
			for r := range 2 {
				a.p("VFMADD231PS %s, %s, %s", v.r(reg+r), v.r(b), v.r(sum(t, r)))
			}
		}
	}
}

// gemmInt8AVX512 is exact in int32 within a block; blocks are added in order.
func gemmInt8AVX512(a *asm, p int8Panel, T int) {
	a.fn(fmt.Sprintf("%sx%d", p.name, T), fmt.Sprintf("multiplies an int8 panel with %d rows.", T),
		"w unsafe.Pointer", "t *Tile", "blocks int")
	a.arg("w", "SI")
	a.arg("blocks", "CX")
	a.tileIn(T)
	acc := func(t, r int) int { return 2*t + r }
	sum := func(t, r int) int { return 2*T + 2*t + r }
	for i := range 2 * T {
		a.p(zmm.zero(2*T + i))
	}
	// A single row has registers to spare: four chains of integer sums.
	chains := 1
	if T == 1 {
		chains = 4
	}
	chain := func(c, t, r int) int {
		if c == 0 {
			return acc(t, r)
		}
		return 2 + 2*c + r
	}
	a.loop("CX", func() {
		if p.few(T) {
			a.ahead(p.header + codeBytes)
		}
		for t := range T {
			a.p("VPBROADCASTD %s, Z%d\nVMOVDQA64 Z%d, Z%d", in(t, actSum), acc(t, 0), acc(t, 0), acc(t, 1))
		}
		for c := 1; c < chains; c++ {
			a.p(zmm.zero(chain(c, 0, 0)))
			a.p(zmm.zero(chain(c, 0, 1)))
		}
		for g := range 8 {
			a.p("VMOVDQU64 %d(SI), Z24\nVMOVDQU64 %d(SI), Z25", p.header+g*group, p.header+g*group+64)
			for t := range T {
				b := 26 + t%2
				a.p("VPBROADCASTD %s, Z%d", in(t, actCodes+4*g), b)
				a.p("VPDPBUSD Z%d, Z24, Z%d\nVPDPBUSD Z%d, Z25, Z%d", b, chain(g%chains, t, 0), b, chain(g%chains, t, 1))
			}
		}
		for c := 1; c < chains; c++ {
			for r := range 2 {
				a.p("VPADDD Z%d, Z%d, Z%d", chain(c, 0, r), acc(0, r), acc(0, r))
			}
		}
		p.scales(a, zmm, 0, 28)
		for t := range T {
			a.p("VMULPS.BCST %s, Z28, Z30\nVMULPS.BCST %s, Z29, Z31", in(t, 0), in(t, 0))
			for r := range 2 {
				a.p("VCVTDQ2PS Z%d, Z%d\nVFMADD231PS Z%d, Z%d, Z%d", acc(t, r), acc(t, r), acc(t, r), 30+r, sum(t, r))
			}
		}
		p.addOffsets(a, zmm, 0, 28, 30, 0, T, sum)
		a.p("ADDQ $%d, SI\nADDQ $%d, BX", p.header+codeBytes, actBlock)
	})
	for t := range T {
		a.p("MOVQ %d(DX), AX\nVMOVUPS Z%d, (AX)\nVMOVUPS Z%d, 64(AX)", outPtrs+8*t, sum(t, 0), sum(t, 1))
	}
	a.end()
}

// gemmInt8AVX2 takes 16 rows of the panel and two input rows at a time. Products
// of signed codes come from |w| * (a with the sign of w): pairs stay in 16 bits.
func gemmInt8AVX2(a *asm, p int8Panel, T int) {
	a.fn(fmt.Sprintf("%sx%d", p.name, T), fmt.Sprintf("multiplies an int8 panel with %d rows.", T),
		"w unsafe.Pointer", "t *Tile", "blocks int")
	a.tileIn(T)
	a.constant(0x00010001, ymm, 15)
	a.constant(0x80808080, ymm, 14)
	for half := range 2 {
		for t0 := 0; t0 < T; t0 += 2 {
			n := min(2, T-t0)
			a.arg("w", "SI")
			a.arg("blocks", "CX")
			a.p("XORL BX, BX")
			for i := range 4 {
				a.p(ymm.zero(4 + i))
			}
			a.loop("CX", func() {
				if half == 0 && p.few(T) {
					a.ahead(p.header + codeBytes)
				}
				for i := range 2 * n {
					a.p(ymm.zero(i))
				}
				for g := range 8 {
					at := p.header + g*group + 64*half
					a.p("VPXOR %d(SI), Y14, Y8\nVPXOR %d(SI), Y14, Y9\nVPABSB Y8, Y10\nVPABSB Y9, Y11", at, at+32)
					for t := range n {
						a.p("VPBROADCASTD %s, Y12", in(t0+t, actCodes+4*g))
						for r := range 2 {
							a.p("VPSIGNB Y%d, Y12, Y13\nVPMADDUBSW Y13, Y%d, Y13\nVPMADDWD Y15, Y13, Y13\nVPADDD Y13, Y%d, Y%d",
								8+r, 10+r, 2*t+r, 2*t+r)
						}
					}
				}
				p.scales(a, ymm, 16*half, 8)
				for t := range n {
					a.p("VBROADCASTSS %s, Y12", in(t0+t, 0))
					for r := range 2 {
						a.p("VMULPS Y12, Y%d, Y13\nVCVTDQ2PS Y%d, Y%d\nVFMADD231PS Y%d, Y13, Y%d", 8+r, 2*t+r, 2*t+r, 2*t+r, 4+2*t+r)
					}
				}
				p.addOffsets(a, ymm, 16*half, 8, 12, t0, n, func(t, r int) int { return 4 + 2*t + r })
				a.p("ADDQ $%d, SI\nADDQ $%d, BX", p.header+codeBytes, actBlock)
			})
			for t := range n {
				a.p("MOVQ %d(DX), AX\nVMOVUPS Y%d, %d(AX)\nVMOVUPS Y%d, %d(AX)", outPtrs+8*(t0+t), 4+2*t, 64*half, 5+2*t, 64*half+32)
			}
		}
	}
	a.end()
}

// floatType is a weight format of panels [cols][32].
type floatType struct {
	name  string
	bytes int
	load  func(v vec, at string, reg int) string
}

var floats = []floatType{
	{"F32", 4, func(v vec, at string, reg int) string { return fmt.Sprintf("VMOVUPS %s, %s", at, v.r(reg)) }},
	{"F16", 2, func(v vec, at string, reg int) string { return fmt.Sprintf("VCVTPH2PS %s, %s", at, v.r(reg)) }},
	{"BF16", 2, func(v vec, at string, reg int) string {
		return fmt.Sprintf("VPMOVZXWD %s, %s\nVPSLLD $16, %s, %s", at, v.r(reg), v.r(reg), v.r(reg))
	}},
}

// gemmFloat adds the columns in order, four per round.
func gemmFloat(a *asm, v vec, f floatType, T int) {
	a.fn(fmt.Sprintf("gemm%sx%d", f.name, T), fmt.Sprintf("multiplies a %s panel with %d rows; cols is a multiple of 4.", f.name, T),
		"w unsafe.Pointer", "t *Tile", "cols int")
	a.tileIn(T)
	for part := 0; part < panelRows; part += 2 * v.lanes {
		a.arg("w", "SI")
		a.arg("cols", "CX")
		a.p("SHRQ $2, CX\nXORL BX, BX")
		for i := range 2 * T {
			a.p(v.zero(i))
		}
		wide := 2 * tileTokens // registers after the sums
		a.loop("CX", func() {
			if part == 0 && T <= directTokens {
				a.aheadNear(4 * panelRows * f.bytes)
			}
			for k := range 4 {
				at := (k*panelRows + part) * f.bytes
				a.p(f.load(v, fmt.Sprintf("%d(SI)", at), wide))
				a.p(f.load(v, fmt.Sprintf("%d(SI)", at+v.lanes*f.bytes), wide+1))
				for t := range T {
					b := wide + 2 + t%2
					a.p("VBROADCASTSS %s, %s", in(t, 4*k), v.r(b))
					for r := range 2 {
						a.p("VFMADD231PS %s, %s, %s", v.r(b), v.r(wide+r), v.r(2*t+r))
					}
				}
			}
			a.p("ADDQ $%d, SI\nADDQ $16, BX", 4*panelRows*f.bytes)
		})
		for t := range T {
			a.p("MOVQ %d(DX), AX", outPtrs+8*t)
			for r := range 2 {
				a.p("VMOVUPS %s, %d(AX)", v.r(2*t+r), 4*part+r*v.bytes())
			}
		}
	}
	a.end()
}
