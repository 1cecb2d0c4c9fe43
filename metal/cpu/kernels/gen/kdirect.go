package main

import (
	"fmt"
	"math"
)

// Products with packed K-quants as they are, and their expansion to panelK.
// AVX-512: 16 rows of the panel at a time, so that registers last for four input
// rows.

const (
	directTokens = 4
	kBlocks      = 8
	kBlockBytes  = 3*4*panelRows + codeBytes // of a PanelK
)

// Registers: sums of up to four input rows for 32 rows of the panel, their integer
// products, and what the format needs.
const (
	zSum   = 0  // to 7
	zAcc   = 8  // to 11
	zScale = 12 // d of 32 rows, to 13
	zMin   = 14 // dmin, to 15
	zPart  = 16 // to 19
	zTmp   = 20 // to 25: of a block
	zKeep  = 26 // to 31: constants
)

// kSink is what is done with a block of 16 rows.
type kSink interface {
	// begin comes before the groups of codes that have a sum of their own. scale is
	// the register of their integer scale, or none.
	begin(a *asm, signed bool, scale int)
	// codes takes four columns. It may change reg.
	codes(a *asm, r, g, reg int)
	// scaled comes after the codes of half h, if they have a scale.
	scaled(a *asm, h, scale int)
	// end takes the scale of the block and what to subtract of either half, or none.
	end(a *asm, r int, scaled bool, scale int, offsets [2]int)
	// free is the first register below zAcc that is free.
	free() int
}

const none = -1

// kFormat is a packed K-quant. SI is its current block, DI its header.
type kFormat struct {
	name        string
	head, block int
	setup       func(a *asm, s kSink)
	body        func(a *asm, r, odd int, s kSink)
	minima      bool
	unroll      int // blocks in one round
}

var kFormats = []kFormat{
	{"Q4K", 128, 576, setupQ4K, bodyQ4K, true, 1},
	{"Q2K", 128, 320, setupQ2K, bodyQ2K, true, 1},
	{"IQ2", 192, 256, setupIQ2, bodyIQ2, false, 2},
}

func setupQ4K(a *asm, _ kSink) { a.constant(0x0f0f0f0f, zmm, zKeep) }

func bodyQ4K(a *asm, r, _ int, s kSink) {
	s.begin(a, false, none)
	for v := range 4 {
		x, y := zTmp+2*(v%2), zTmp+1+2*(v%2)
		a.p("VMOVDQU64 %d(SI), Z%d\nVPANDD Z%d, Z%d, Z%d", 64+group*v+64*r, x, zKeep, x, y)
		s.codes(a, r, v, y)
		a.p("VPSRLW $4, Z%d, Z%d\nVPANDD Z%d, Z%d, Z%d", x, x, zKeep, x, x)
		s.codes(a, r, 4+v, x)
	}
	scale, offset := zTmp+4, zTmp+5
	for i, d := range []int{zScale + r, zMin + r} {
		a.p("VPMOVZXBD %d(SI), Z%d\nVCVTDQ2PS Z%d, Z%d\nVMULPS Z%d, Z%d, Z%d", panelRows*i+16*r, scale+i, scale+i, scale+i, d, scale+i, scale+i)
	}
	s.end(a, r, false, scale, [2]int{offset, offset})
}

func setupQ2K(a *asm, _ kSink) {
	a.constant(0x03030303, zmm, zKeep)
	a.constant(15, zmm, zKeep+1)
}

func bodyQ2K(a *asm, r, _ int, s kSink) {
	both := zTmp + 4 // scale and minimum of a half
	for h := range 2 {
		a.p("VPMOVZXBD %d(SI), Z%d\nVPANDD Z%d, Z%d, Z%d", panelRows*h+16*r, both+h, zKeep+1, both+h, zKeep+2)
		s.begin(a, false, zKeep+2)
		a.p("VMOVDQU64 %d(SI), Z%d", 64+group*h+64*r, zTmp)
		for i := range 4 {
			src, reg := zTmp, zTmp+1+i%3
			if i > 0 {
				a.p("VPSRLW $%d, Z%d, Z%d", 2*i, zTmp, reg)
				src = reg
			}
			a.p("VPANDD Z%d, Z%d, Z%d", zKeep, src, reg)
			s.codes(a, r, 4*h+i, reg)
		}
		s.scaled(a, h, zKeep+2)
	}
	for h := range 2 {
		a.p("VPSRLD $4, Z%d, Z%d\nVCVTDQ2PS Z%d, Z%d\nVMULPS Z%d, Z%d, Z%d", both+h, both+h, both+h, both+h, zMin+r, both+h, both+h)
	}
	s.end(a, r, true, zScale+r, [2]int{both, both + 1})
}

// IQ2_XXS finds the levels of a grid point in two tables of 256 bytes, puts the signs
// of two coordinates beside their levels, and has the code of either in a table of
// 64. Needs AVX-512 VBMI and VBMI2.
const (
	zGrid  = 20 // to 23: quarters 0 and 2 of either table
	zPoint = 24 // to 25: where the columns of a point are
	zPair  = 26 // to 27: two points of each row
	zSign  = 28 // signs of the block
	zMask  = 29 // of the bits that come from the point
	zZero  = 30
	zSteps = 31 // the scales that four bits stand for
)

func setupIQ2(a *asm, s kSink) {
	for i := range 4 {
		a.p("VMOVDQU64 ·gridCodes+%d(SB), Z%d", 128*i, zGrid+i)
	}
	for i := range 2 {
		a.p("VMOVDQU64 iq2Points<>+%d(SB), Z%d", 64*i, zPoint+i)
	}
	a.p("VMOVDQU64 iq2Steps<>(SB), Z%d\nMOVQ $0xaaaaaaaaaaaaaaaa, AX\nKMOVQ AX, K3", zSteps)
	a.constant(0x0f0f0f0f, zmm, zMask)
	a.p(zmm.zero(zZero))
	for i, table := range iq2Tables {
		if reg := zAcc - 1 - i; reg >= s.free() {
			a.p("VMOVDQU64 %s, Z%d", table, reg)
		}
	}
}

// iq2Tables are needed besides zGrid, most often the first. They are in registers if
// there are any left: a table in memory may lie across two cache lines.
var iq2Tables = []string{"iq2First<>(SB)", "iq2Second<>(SB)", "·gridCodes+64(SB)", "·gridCodes+192(SB)", "·gridCodes+320(SB)", "·gridCodes+448(SB)"}

// iq2Table is the operand of a table.
func iq2Table(i int, s kSink) string {
	if reg := zAcc - 1 - i; reg >= s.free() {
		return zmm.r(reg)
	}
	return iq2Tables[i]
}

// tablesIQ2 defines the constants: offsets of VPMULTISHIFTQB, of which a qword has
// two rows; codes by levels and signs of two coordinates, for the first and the
// second; and scales.
func tablesIQ2(a *asm) {
	for point := range 2 {
		for i := range 16 {
			var d uint32
			for k := range 4 {
				d |= uint32(32*(i%2)+16*(k/2)+8*point+4*(k%2)) << (8 * k)
			}
			a.p("DATA iq2Points<>+%d(SB)/4, $0x%08x", 64*point+4*i, d)
		}
	}
	a.p("GLOBL iq2Points<>(SB), RODATA|NOPTR, $128")
	levels := [4]int{8, 25, 43, 0}
	for second := range 2 {
		var codes [16]uint32
		for i := range 64 {
			code := levels[i>>(2*second)&3]
			if i>>(4+second)&1 == 1 {
				code = -code
			}
			codes[i/4] |= uint32(uint8(code+0x80)) << (8 * (i % 4))
		}
		a.table([]string{"iq2First", "iq2Second"}[second], codes)
	}
	var steps [16]uint32
	for i := range steps {
		steps[i] = math.Float32bits(0.5 + float32(i))
	}
	a.table("iq2Steps", steps)
	a.p("DATA quarterOne<>(SB)/4, $0x3e800000\nGLOBL quarterOne<>(SB), RODATA|NOPTR, $4")
}

func bodyIQ2(a *asm, r, odd int, s kSink) {
	low, high, signs := zMin, zMin+1, zSign // columns 0 and 1 of either half of a point, and 2 and 3
	s.begin(a, true, none)
	a.p("VMOVDQU64 %d(SI), Z%d\nVPMOVB2M Z%d, K1\nKNOTQ K1, K2\nVMOVDQA64 Z%d, Z%d", 64*r, low, low, low, high)
	for i, reg := range []int{low, high} {
		for half := range 2 {
			a.p("VPERMI2B %s, Z%d, K%d, Z%d", iq2Table(2+2*i+half, s), zGrid+2*i+half, 2-half, reg)
		}
	}
	a.p("VPRORD $16, Z%d, Z%d\nVPBLENDMW Z%d, Z%d, K3, Z%d\nVPSHRDD $16, Z%d, Z%d, Z%d", high, high, high, low, zPair, high, low, zPair+1)
	a.p("VMOVDQU64 %d(SI), Z%d", 4*panelRows+64*r, signs)
	for p := range 4 {
		both, first, sign := zPart+p%2, zPart+2, zPart+3
		a.p("VPMULTISHIFTQB Z%d, Z%d, Z%d", zPair+p/2, zPoint+p%2, both)
		switch p {
		case 2: // they are where the tables have them
			sign = signs
		case 3:
			a.p("VPSRLD $2, Z%d, Z%d", signs, sign)
		default:
			a.p("VPSLLD $%d, Z%d, Z%d", 4-2*p, signs, sign)
		}
		a.p("VPTERNLOGD $0xe4, Z%d, Z%d, Z%d\nVPERMB %s, Z%d, Z%d", zMask, sign, both, iq2Table(0, s), both, first)
		s.codes(a, r, 2*p, first)
		a.p("VPERMB %s, Z%d, Z%d", iq2Table(1, s), both, both)
		s.codes(a, r, 2*p+1, both)
	}
	scale := zMin
	a.p("VPMOVZXBD %d(DI), Z%d", 64+16*r, scale)
	if odd == 1 {
		a.p("VPSRLD $4, Z%d, Z%d", scale, scale)
	}
	a.p("VPERMPS Z%d, Z%d, Z%d\nVMULPS Z%d, Z%d, Z%d", zSteps, scale, scale, zScale+r, scale, scale)
	s.end(a, r, false, scale, [2]int{none, none})
}

// forBlocks runs s over all blocks. CX counts superblocks of 256 columns; step
// moves what goes along with a block.
func (f kFormat) forBlocks(a *asm, s kSink, step string) {
	f.setup(a, s)
	a.loop("CX", func() {
		a.aheadNear(f.head)
		a.p("MOVQ SI, DI\nADDQ $%d, SI\nMOVL $%d, AX", f.head, kBlocks/f.unroll)
		for r := range 2 {
			a.p("VCVTPH2PS %d(DI), Z%d", 32*r, zScale+r)
			if f.minima {
				a.p("VCVTPH2PS %d(DI), Z%d", 64+32*r, zMin+r)
			} else { // a scale is multiplied with a quarter
				a.p("VMULPS.BCST quarterOne<>(SB), Z%d, Z%d", zScale+r, zScale+r)
			}
		}
		a.loop("AX", func() {
			for odd := range f.unroll {
				a.aheadNear(f.block)
				for r := range 2 {
					f.body(a, r, odd, s)
				}
				a.p("ADDQ $%d, SI\n%s", f.block, step)
			}
			if f.unroll == 2 {
				a.p("ADDQ $%d, DI", panelRows) // scales of two blocks
			}
		})
	})
}

// directAVX512 are the products with one to four input rows.
func directAVX512(a *asm) {
	tablesIQ2(a)
	for _, f := range kFormats {
		for T := 1; T <= directTokens; T++ {
			directK(a, f, T)
		}
	}
}

// directK multiplies a panel with T rows.
func directK(a *asm, f kFormat, T int) {
	a.fn(fmt.Sprintf("gemm%sx%d", f.name, T), fmt.Sprintf("multiplies a packed K-quant with %d rows.", T),
		"w unsafe.Pointer", "t *Tile", "supers int")
	a.arg("w", "SI")
	a.arg("supers", "CX")
	a.tileIn(T)
	for i := range 2 * T {
		a.p(zmm.zero(zSum + i))
	}
	f.forBlocks(a, &direct{T: T}, fmt.Sprintf("ADDQ $%d, BX", actBlock))
	for t := range T {
		a.p("MOVQ %d(DX), AX\nVMOVUPS Z%d, (AX)\nVMOVUPS Z%d, 64(AX)", outPtrs+8*t, zSum+2*t, zSum+2*t+1)
	}
	a.end()
}

// direct multiplies with T rows.
type direct struct {
	T      int
	chains int // of the sums that the products of a block are added to, in turn
}

func (d *direct) free() int { return zSum + 2*d.T }

// begin makes two chains of a block's eight products, each of which takes five cycles,
// if there are registers left.
func (d *direct) begin(a *asm, signed bool, scale int) {
	d.chains = 1
	if scale == none && d.T <= directTokens/2 {
		d.chains = 2
	}
	for t := range d.T * d.chains {
		if signed && t < d.T {
			a.p("VPBROADCASTD %s, Z%d", in(t, actSum), zAcc+t)
		} else {
			a.p(zmm.zero(zAcc + t))
		}
	}
}

func (d *direct) codes(a *asm, _, g, reg int) {
	for t := range d.T {
		a.p("VPDPBUSD.BCST %s, Z%d, Z%d", in(t, actCodes+4*g), reg, zAcc+g%d.chains*d.T+t)
	}
}

// join adds the chains up.
func (d *direct) join(a *asm) {
	if d.chains == 2 {
		for t := range d.T {
			a.p("VPADDD Z%d, Z%d, Z%d", zAcc+d.T+t, zAcc+t, zAcc+t)
		}
	}
}

// scaled adds the halves as float32, which is exact: 45*127*32 < 2^24.
func (d *direct) scaled(a *asm, h, scale int) {
	a.p("VCVTDQ2PS Z%d, Z%d", scale, scale)
	for t := range d.T {
		a.p("VCVTDQ2PS Z%d, Z%d", zAcc+t, zAcc+t)
		if h == 0 {
			a.p("VMULPS Z%d, Z%d, Z%d", zAcc+t, scale, zPart+t)
		} else {
			a.p("VFMADD213PS Z%d, Z%d, Z%d", zPart+t, scale, zAcc+t)
		}
	}
}

func (d *direct) end(a *asm, r int, scaled bool, scale int, offsets [2]int) {
	d.join(a)
	for t := range d.T {
		acc, sum := zAcc+t, zSum+2*t+r
		if !scaled {
			a.p("VCVTDQ2PS Z%d, Z%d", acc, acc)
		}
		a.p("VMULPS.BCST %s, Z%d, Z%d\nVFMADD231PS Z%d, Z%d, Z%d", in(t, 0), scale, zPart+t, acc, zPart+t, sum)
		for h, offset := range offsets {
			if offset == none { // what adding zero does: -0 becomes 0
				a.p("VFMADD231PS.BCST %s, Z%d, Z%d", in(t, actHalves+4*h), zZero, sum)
			} else {
				a.p("VFNMADD231PS.BCST %s, Z%d, Z%d", in(t, actHalves+4*h), offset, sum)
			}
		}
	}
}

// expandAVX512 are the expansions to panelK.
func expandAVX512(a *asm) {
	for _, f := range kFormats {
		a.fn("expand"+f.name, "makes a PanelK of a packed K-quant.", "dst unsafe.Pointer", "src unsafe.Pointer", "supers int")
		a.arg("dst", "R8")
		a.arg("src", "SI")
		a.arg("supers", "CX")
		a.constant(0x80808080, zmm, zFlip)
		a.constant(0x80000000, zmm, zMinus)
		f.forBlocks(a, new(expand), fmt.Sprintf("ADDQ $%d, R8", kBlockBytes))
		a.end()
	}
}

// expand stores a block.
type expand struct{ flipped, words bool }

// Registers that direct has for sums.
const (
	zFlip  = 0
	zMinus = 1 // the sign of a float32
	zWords = 2 // the scale of a half, twice in a dword
	zNeg   = 3
)

func (*expand) free() int { return zNeg + 1 }

func (e *expand) begin(a *asm, signed bool, scale int) {
	e.flipped, e.words = signed, scale != none
	if scale != none {
		a.p("VPSLLD $16, Z%d, Z%d\nVPORD Z%d, Z%d, Z%d", scale, zWords, scale, zWords, zWords)
	}
}

func (e *expand) codes(a *asm, r, g, reg int) {
	if e.words {
		a.p("VPMULLW Z%d, Z%d, Z%d", zWords, reg, reg) // 3*15 fits a byte
	}
	if !e.flipped {
		a.p("VPORD Z%d, Z%d, Z%d", zFlip, reg, reg)
	}
	a.p("VMOVDQU64 Z%d, %d(R8)", reg, 3*4*panelRows+group*g+64*r)
}

func (*expand) scaled(*asm, int, int) {}

func (*expand) end(a *asm, r int, _ bool, scale int, offsets [2]int) {
	a.p("VMOVUPS Z%d, %d(R8)", scale, 64*r)
	for h, offset := range offsets {
		reg := zZero
		if offset != none {
			reg = zNeg
			a.p("VPXORD Z%d, Z%d, Z%d", zMinus, offset, zNeg)
		}
		a.p("VMOVUPS Z%d, %d(R8)", reg, (1+h)*4*panelRows+64*r)
	}
}
