package main

// hyperGates computes the gates of four streams for one token: the input and
// output weights, and the mixing matrix, one row per 128-bit lane, made doubly
// stochastic.
func hyperGates(a *asm) {
	a.fn("hyperGates", "computes pre[4], post[4] and comb[16] from the mix of a token. p is inv, scale[3], eps.",
		"dst *float32", "mix *float32", "base *float32", "p *float32", "iterations int")
	a.arg("dst", "DI")
	a.arg("mix", "SI")
	a.arg("base", "DX")
	a.arg("p", "BX")
	a.arg("iterations", "CX")
	c := expConstants(a, zmm, 16)
	one := c.reg(ymm, expOne)
	a.p("VBROADCASTSS (BX), Z10\nVBROADCASTSS 12(BX), Z11\nVBROADCASTSS 16(BX), Z12")
	a.p("VBROADCASTSS 4(BX), X1\nVBROADCASTSS 8(BX), X2\nVINSERTF128 $1, X2, Y1, Y1")
	a.p("VMULPS (SI), Y10, Y0\nVFMADD213PS (DX), Y1, Y0\nVPXOR Y1, Y1, Y1\nVSUBPS Y0, Y1, Y0")
	c.exp(a, ymm, 0, 1, 2, 3)
	a.p("VADDPS %s, Y0, Y0\nVDIVPS Y0, %s, Y0\nVEXTRACTF128 $1, Y0, X1", one, one)
	a.p("VADDPS X12, X0, X0\nVADDPS X1, X1, X1\nVMOVUPS X0, (DI)\nVMOVUPS X1, 16(DI)")

	a.p("VMULPS 32(SI), Z10, Z0\nVFMADD213PS 32(DX), Z11, Z0")
	across := func(op string) { // over the four values of a row, into Z2
		a.p("VPERMILPS $0x4e, Z0, Z1\n%s Z1, Z0, Z2\nVPERMILPS $0xb1, Z2, Z1\n%s Z1, Z2, Z2", op, op)
	}
	across("VMAXPS")
	a.p("VSUBPS Z2, Z0, Z0")
	c.exp(a, zmm, 0, 1, 2, 3)
	across("VADDPS")
	a.p("VDIVPS Z2, Z0, Z0\nVADDPS Z12, Z0, Z0")
	columns := func() {
		a.p("VSHUFF32X4 $0x4e, Z0, Z0, Z1\nVADDPS Z1, Z0, Z2\nVSHUFF32X4 $0xb1, Z2, Z2, Z1\nVADDPS Z1, Z2, Z2\nVADDPS Z12, Z2, Z2\nVDIVPS Z2, Z0, Z0")
	}
	columns()
	a.p("DECQ CX")
	a.loopWhile("CX", 1, func() {
		across("VADDPS")
		a.p("VADDPS Z12, Z2, Z2\nVDIVPS Z2, Z0, Z0")
		columns()
	})
	a.p("VMOVUPS Z0, 32(DI)")
	a.end()
}
