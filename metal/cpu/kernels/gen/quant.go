package main

import "math"

func f32(x float32) uint32 { return math.Float32bits(x) }

// quantRowsAVX512 rounds blocks of 32 values to int8, with any scale or with a power
// of two.
func quantRowsAVX512(a *asm) {
	quantRowAVX512(a, "quantRow", "rounds blocks of 32 values to int8.", false)
	quantRowAVX512(a, "quantExact", "makes int8 of blocks of 32 values that have few bits.", true)
}

func quantRowAVX512(a *asm, name, doc string, exact bool) {
	a.fn(name, doc, "dst unsafe.Pointer", "x *float32", "blocks int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.arg("blocks", "CX")
	a.constant(0x7fffffff, zmm, 31)
	c := quantConstants(a, zmm, 28, exact)
	a.constant(0x01010101, zmm, 27)
	a.loop("CX", func() {
		a.p("VMOVUPS (SI), Z0\nVMOVUPS 64(SI), Z1\nVPANDD Z31, Z0, Z2\nVPANDD Z31, Z1, Z3\nVPMAXSD Z2, Z3, Z2")
		a.p("VEXTRACTF64X4 $1, Z2, Y3\nVPMAXSD Y3, Y2, Y2")
		c.scale(a)
		a.p("VBROADCASTSS X5, Z5\nVMULPS Z5, Z0, Z0\nVMULPS Z5, Z1, Z1\nVCVTPS2DQ Z0, Z0\nVCVTPS2DQ Z1, Z1")
		a.p("VPMOVDB Z0, X0\nVPMOVDB Z1, X1\nVINSERTI128 $1, X1, Y0, Y0\nVMOVDQU Y0, 16(DI)")
		a.p("VPXOR Y7, Y7, Y7\nVPDPBUSD Y0, Y27, Y7")
		quantSum(a)
	})
	a.end()
}

func quantRowsAVX2(a *asm) {
	quantRowAVX2(a, "quantRow", "rounds blocks of 32 values to int8.", false)
	quantRowAVX2(a, "quantExact", "makes int8 of blocks of 32 values that have few bits.", true)
}

func quantRowAVX2(a *asm, name, doc string, exact bool) {
	a.fn(name, doc, "dst unsafe.Pointer", "x *float32", "blocks int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.arg("blocks", "CX")
	a.p("VPCMPEQD Y15, Y15, Y15\nVPSRLD $1, Y15, Y15")
	c := quantConstants(a, ymm, 12, exact)
	a.loop("CX", func() {
		for i := range 4 {
			a.p("VMOVUPS %d(SI), Y%d\nVPAND Y15, Y%d, Y%d", 32*i, 8+i, 8+i, i)
		}
		// In the order of the wide form: x[i] with x[i+16], then halves.
		a.p("VPMAXSD Y0, Y2, Y0\nVPMAXSD Y1, Y3, Y1\nVPMAXSD Y1, Y0, Y2")
		c.scale(a)
		a.p("VBROADCASTSS X5, Y5")
		for i := range 4 {
			a.p("VMULPS Y5, Y%d, Y%d\nVCVTPS2DQ Y%d, Y%d", 8+i, 8+i, 8+i, 8+i)
		}
		// Four partial sums of each half, in a half of Y7.
		a.p("VPADDD Y8, Y9, Y6\nVPADDD Y10, Y11, Y7\nVPERM2I128 $0x20, Y7, Y6, Y0\nVPERM2I128 $0x31, Y7, Y6, Y1\nVPADDD Y0, Y1, Y7")
		// Packing works within halves: 0 4 1 5, 2 6 3 7 in groups of four codes.
		a.p("VPACKSSDW Y9, Y8, Y8\nVPACKSSDW Y11, Y10, Y10\nVPACKSSWB Y10, Y8, Y8")
		a.p("VEXTRACTI128 $1, Y8, X9\nVPUNPCKLDQ X9, X8, X10\nVPUNPCKHDQ X9, X8, X11\nVMOVDQU X10, 16(DI)\nVMOVDQU X11, 32(DI)")
		quantSum(a)
	})
	a.end()
}

// quantConsts are three registers from first on: what the scale comes from, the
// least maximum, and what the inverse comes from.
type quantConsts struct {
	v     vec
	first int
	exact bool
}

func quantConstants(a *asm, v vec, first int, exact bool) quantConsts {
	top, one := f32(127), f32(1)
	if exact {
		top, one = 0x7f800000, 254<<23 // exponents
	}
	a.constant(one, v, first)
	a.constant(f32(0x1p-100), v, first+1)
	a.constant(top, v, first+2)
	return quantConsts{v, first, exact}
}

// scale turns the maximum over Y2 into the scale X4 and its inverse X5. Magnitudes
// compare as integers do, and so NaN is the largest.
func (c quantConsts) scale(a *asm) {
	a.p("VEXTRACTF128 $1, Y2, X3\nVPMAXSD X3, X2, X2\nVPERMILPS $0x4e, X2, X3\nVPMAXSD X3, X2, X2\nVPERMILPS $0xb1, X2, X3\nVPMAXSD X3, X2, X2")
	one, tiny, top := c.first, c.first+1, c.first+2
	if !c.exact {
		a.p("VDIVSS X%d, X2, X4\nVMAXSS X%d, X4, X5\nVDIVSS X5, X%d, X5", top, tiny, one)
		notFinite(a, 2, 3, 4)
		return
	}
	and := "VPAND"
	if c.v.avx512() {
		and = "VPANDD"
	}
	const bits = 5 // below the highest
	a.p("VMAXSS X%d, X2, X4\n%s X%d, X4, X4\nMOVL $%d, AX\nVMOVD AX, X5\nVPSUBD X5, X4, X4\nVPSUBD X4, X%d, X5", tiny, and, top, bits<<23, one)
	notFinite(a, 2, 3, 4)
}

// notFinite makes a scale NaN if the maximum that it comes from is not finite.
func notFinite(a *asm, most, tmp, scale int) {
	a.p("VSUBSS X%d, X%d, X%d\nVADDSS X%d, X%d, X%d", most, most, tmp, tmp, scale, scale)
}

// quantSum writes the scale X4 and the sums over the halves of Y7, and goes on.
func quantSum(a *asm) {
	a.p("VPSHUFD $0x4e, Y7, Y8\nVPADDD Y8, Y7, Y7\nVPSHUFD $0xb1, Y7, Y8\nVPADDD Y8, Y7, Y7\nVEXTRACTI128 $1, Y7, X8")
	a.p("VPADDD X8, X7, X9\nVMOVD X9, AX\nSHLL $7, AX\nNEGL AX\nMOVL AX, 4(DI)\nVMOVSS X4, (DI)")
	a.p("VCVTDQ2PS X7, X7\nVMULSS X4, X7, X7\nVMOVSS X7, 8(DI)\nVCVTDQ2PS X8, X8\nVMULSS X4, X8, X8\nVMOVSS X8, 12(DI)")
	a.p("ADDQ $48, DI\nADDQ $128, SI")
}
