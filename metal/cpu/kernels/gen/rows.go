package main

// Kernels along a row. What is done to each value by itself has the same bits in
// any width; sums across a row have 16 lanes, folded in halves.

// foldTo adds the lanes of a sum of 16 into lane 0 of X0. With AVX2 the upper
// eight lanes are in Y1.
func foldTo(a *asm, v vec) {
	if v.avx512() {
		a.p("VEXTRACTF64X4 $1, Z0, Y1")
	}
	a.p("VADDPS Y1, Y0, Y0\nVEXTRACTF128 $1, Y0, X1\nVADDPS X1, X0, X0")
	a.p("VPERMILPS $0x4e, X0, X1\nVADDPS X1, X0, X0\nVPERMILPS $0xb1, X0, X1\nVADDPS X1, X0, X0")
}

// squares adds the squares of n values at reg into X0. It destroys reg and CX.
func squares(a *asm, v vec, reg string) {
	a.p("%s\n%s", v.zero(0), v.zero(1))
	a.loopWhile("CX", 16, func() {
		for i := range 16 / v.lanes {
			a.p("VMOVUPS %d(%s), %s\nVFMADD231PS %s, %s, %s", i*v.bytes(), reg, v.r(2+i), v.r(2+i), v.r(2+i), v.r(i))
		}
		a.p("ADDQ $64, %s", reg)
	})
	foldTo(a, v)
}

// inverseRMS turns the sum of squares X0 over n values into 1/sqrt(mean + eps).
func inverseRMS(a *asm) {
	a.arg("n", "CX")
	a.p("VXORPS X1, X1, X1\nVCVTSI2SSQ CX, X1, X1\nVDIVSS X1, X0, X0\nVADDSS %s, X0, X0\nVSQRTSS X0, X0, X0", a.params["eps"])
	a.p("MOVL $0x3f800000, AX\nVMOVD AX, X1\nVDIVSS X0, X1, X0")
}

func rowNorm(a *asm, v vec) {
	a.fn("rowRMS", "is 1/sqrt(mean(x^2) + eps); n is a multiple of 16.", "x *float32", "n int", "eps float32", "ret float32")
	a.arg("x", "SI")
	a.arg("n", "CX")
	squares(a, v, "SI")
	inverseRMS(a)
	a.p("VMOVSS X0, %s", a.params["ret"])
	a.end()

	a.fn("rowNorm", "normalises x in place; n is a multiple of 16; w may be nil.", "x *float32", "w *float32", "n int", "eps float32")
	a.arg("x", "SI")
	a.p("MOVQ SI, DI")
	a.arg("n", "CX")
	squares(a, v, "SI")
	inverseRMS(a)
	a.arg("w", "DX")
	a.p("VBROADCASTSS X0, %s", v.r(0))
	plain, done := a.newLabel("plain"), a.newLabel("done")
	a.p("TESTQ DX, DX\nJZ %s", plain)
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMULPS (DI), %s, %s\nVMULPS (DX), %s, %s\nVMOVUPS %s, (DI)\nADDQ $%d, DI\nADDQ $%d, DX",
			v.r(0), v.r(1), v.r(1), v.r(1), v.r(1), v.bytes(), v.bytes())
	})
	a.p("JMP %s\n%s:", done, plain)
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMULPS (DI), %s, %s\nVMOVUPS %s, (DI)\nADDQ $%d, DI", v.r(0), v.r(1), v.r(1), v.bytes())
	})
	a.p("%s:", done)
	a.end()
}

// swiglu has the constants of exp in registers, or in memory.
func swiglu(a *asm, v vec) {
	a.fn("swiglu", "is hidden = silu(min(gate, clamp)) * clamped up, in place; n is a multiple of 16.", "gate *float32", "up *float32", "n int", "clamp float32")
	a.arg("gate", "DI")
	a.arg("up", "SI")
	a.arg("n", "CX")
	var c expConsts
	if v.avx512() {
		c = expConstants(a, v, 16)
	} else {
		c = expTable(a)
	}
	R := v.r
	a.p("VBROADCASTSS %s, %s\n%s\nVSUBPS %s, %s, %s", a.params["clamp"], R(10), v.zero(11), R(10), R(11), R(12))
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMOVUPS (DI), %s\nVMINPS %s, %s, %s\nVSUBPS %s, %s, %s", R(0), R(0), R(10), R(0), R(0), R(11), R(1))
		c.exp(a, v, 1, 2, 3, 4)
		a.p("VADDPS %s, %s, %s\nVDIVPS %s, %s, %s", c.reg(v, expOne), R(1), R(1), R(1), R(0), R(0))
		a.p("VMOVUPS (SI), %s\nVMAXPS %s, %s, %s\nVMINPS %s, %s, %s", R(2), R(2), R(12), R(2), R(2), R(10), R(2))
		a.p("VMULPS %s, %s, %s\nVMOVUPS %s, (DI)\nADDQ $%d, DI\nADDQ $%d, SI", R(2), R(0), R(0), R(0), v.bytes(), v.bytes())
	})
	a.end()
}

// axpy is y += w*x.
func axpy(a *asm, v vec) {
	a.fn("axpy", "adds w*x to y; n is a multiple of 16.", "y *float32", "x *float32", "n int", "w float32")
	a.arg("y", "DI")
	a.arg("x", "SI")
	a.arg("n", "CX")
	a.p("VBROADCASTSS %s, %s", a.params["w"], v.r(2))
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMOVUPS (DI), %s\nVFMADD231PS (SI), %s, %s\nVMOVUPS %s, (DI)\nADDQ $%d, DI\nADDQ $%d, SI",
			v.r(0), v.r(2), v.r(0), v.r(0), v.bytes(), v.bytes())
	})
	a.end()
}

// rotate turns pairs: the sine is multiplied with sign.
func rotate(a *asm, v vec) {
	a.fn("rotate", "turns pairs of x by the angles of table (cos, sin); n is a multiple of 16.", "x *float32", "table *float32", "n int", "sign float32")
	a.arg("x", "DI")
	a.arg("table", "SI")
	a.arg("n", "CX")
	R := v.r
	a.p("VBROADCASTSS %s, %s", a.params["sign"], R(7))
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMOVUPS (SI), %s\nVMOVSLDUP %s, %s\nVMOVSHDUP %s, %s\nVMULPS %s, %s, %s", R(0), R(0), R(1), R(0), R(2), R(7), R(2), R(2))
		a.p("VMOVUPS (DI), %s\nVPERMILPS $0xb1, %s, %s\nVMULPS %s, %s, %s", R(3), R(3), R(4), R(2), R(4), R(4))
		a.p("VFMADDSUB213PS %s, %s, %s\nVMOVUPS %s, (DI)\nADDQ $%d, DI\nADDQ $%d, SI", R(4), R(1), R(3), R(3), v.bytes(), v.bytes())
	})
	a.end()
}

// mix4 is the weighted sum of four streams.
func mix4(a *asm, v vec) {
	a.fn("mix4", "is x = pre[0..3] . streams; n is a multiple of 16.", "x *float32", "streams *float32", "pre *float32", "n int")
	a.arg("x", "DI")
	a.arg("streams", "SI")
	a.arg("pre", "DX")
	a.arg("n", "CX")
	for h := range 4 {
		a.p("VBROADCASTSS %d(DX), %s", 4*h, v.r(4+h))
	}
	a.p("LEAQ (CX*4), R8\nLEAQ (R8)(R8*2), R9")
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMULPS (SI), %s, %s", v.r(4), v.r(0))
		for h, at := range []string{"(SI)(R8*1)", "(SI)(R8*2)", "(SI)(R9*1)"} {
			a.p("VFMADD231PS %s, %s, %s", at, v.r(5+h), v.r(0))
		}
		a.p("VMOVUPS %s, (DI)\nADDQ $%d, DI\nADDQ $%d, SI", v.r(0), v.bytes(), v.bytes())
	})
	a.end()
}

// apply4 updates four streams. Constants beyond the registers come from memory.
func apply4(a *asm, v vec) {
	a.fn("apply4", "is S[b] = post[b]*y + sum of comb[a][b]*S[a]; n is a multiple of 16.", "streams *float32", "y *float32", "post *float32", "comb *float32", "n int")
	a.arg("streams", "DI")
	a.arg("y", "SI")
	a.arg("post", "DX")
	a.arg("comb", "BX")
	a.arg("n", "CX")
	a.p("LEAQ (CX*4), R8\nLEAQ (R8)(R8*2), R9")
	at := []string{"(DI)", "(DI)(R8*1)", "(DI)(R8*2)", "(DI)(R9*1)"}
	if v.avx512() {
		for i := range 16 {
			a.p("VBROADCASTSS %d(BX), %s", 4*i, v.r(16+i))
		}
		for i := range 4 {
			a.p("VBROADCASTSS %d(DX), %s", 4*i, v.r(12+i))
		}
	}
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMOVUPS (SI), %s", v.r(0))
		for h := range 4 {
			a.p("VMOVUPS %s, %s", at[h], v.r(1+h))
		}
		for b := range 4 {
			if v.avx512() {
				a.p("VMULPS %s, %s, %s", v.r(0), v.r(12+b), v.r(5+b))
			} else {
				a.p("VBROADCASTSS %d(DX), %s\nVMULPS %s, %s, %s", 4*b, v.r(9), v.r(0), v.r(9), v.r(5+b))
			}
			for h := range 4 {
				w := 16 + 4*h + b
				if !v.avx512() {
					w = 10 + h
					a.p("VBROADCASTSS %d(BX), %s", 4*(4*h+b), v.r(w))
				}
				a.p("VFMADD231PS %s, %s, %s", v.r(1+h), v.r(w), v.r(5+b))
			}
		}
		for b := range 4 {
			a.p("VMOVUPS %s, %s", v.r(5+b), at[b])
		}
		a.p("ADDQ $%d, DI\nADDQ $%d, SI", v.bytes(), v.bytes())
	})
	a.end()
}

// pool has a softmax per channel.
func pool(a *asm, v vec) {
	a.fn("pool", "is the softmax-weighted sum of entries, channel by channel; width is a multiple of 16.", "z *float32", "kv *float32", "gate *float32", "entries int", "width int")
	a.arg("z", "DI")
	a.arg("width", "CX")
	a.p("LEAQ (CX*4), R8\nXORL BX, BX")
	var c expConsts
	if v.avx512() {
		c = expConstants(a, v, 16)
	} else {
		c = expTable(a)
	}
	R := v.r
	a.loopWhile("CX", v.lanes, func() {
		a.arg("gate", "SI")
		a.arg("entries", "DX")
		a.p("ADDQ BX, SI\nVMOVUPS (SI), %s", R(0))
		a.loop("DX", func() { a.p("VMOVUPS (SI), %s\nVMAXPS %s, %s, %s\nADDQ R8, SI", R(1), R(1), R(0), R(0)) })
		a.arg("gate", "SI")
		a.arg("kv", "R9")
		a.arg("entries", "DX")
		a.p("ADDQ BX, SI\nADDQ BX, R9\n%s\n%s", v.zero(1), v.zero(2))
		a.loop("DX", func() {
			a.p("VMOVUPS (SI), %s\nVSUBPS %s, %s, %s", R(3), R(0), R(3), R(3))
			c.exp(a, v, 3, 4, 5, 6)
			a.p("VADDPS %s, %s, %s\nVFMADD231PS (R9), %s, %s\nADDQ R8, SI\nADDQ R8, R9", R(3), R(1), R(1), R(3), R(2))
		})
		a.p("VDIVPS %s, %s, %s\nVMOVUPS %s, (DI)(BX*1)\nADDQ $%d, BX", R(1), R(2), R(2), R(2), v.bytes())
	})
	a.end()
}
