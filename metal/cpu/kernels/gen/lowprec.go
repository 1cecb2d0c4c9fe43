package main

// Simulated low precision.

// blockScale finds the largest magnitude of a block of values at DI, at least
// floor: in register 1 is the power of two next to amax/limit, or NaN if a value is
// not finite, and in 2 the inverse. mask is a register with 0x7fffffff, floor, limit
// and one others. Magnitudes compare as integers do, and so NaN is the largest.
func blockScale(a *asm, v vec, values, mask, floor, limit, one int) {
	R := v.r
	a.p("VMOVUPS %s, %s", R(floor), R(0))
	and := "VPAND"
	if v.avx512() {
		and = "VPANDD"
	}
	for i := range values / v.lanes {
		a.p("%s %d(DI), %s, %s\nVPMAXSD %s, %s, %s", and, i*v.bytes(), R(mask), R(1), R(1), R(0), R(0))
	}
	if v.avx512() {
		a.p("VEXTRACTF64X4 $1, Z0, Y1\nVPMAXSD Y1, Y0, Y0")
	}
	a.p("VEXTRACTF128 $1, Y0, X1\nVPMAXSD X1, X0, X0\nVPERMILPS $0x4e, X0, X1\nVPMAXSD X1, X0, X0\nVPERMILPS $0xb1, X0, X1\nVPMAXSD X1, X0, X0")
	// 2^ceil(log2(x)): round the mantissa up into the exponent.
	a.p("VDIVSS X%d, X0, X0\nVMOVD X0, AX\nADDL $0x7fffff, AX\nANDL $0xff800000, AX\nVMOVD AX, X1", limit)
	notFinite(a, 0, 3, 1)
	a.p("VDIVSS X1, X%d, X2", one)
	a.p("VBROADCASTSS X1, %s\nVBROADCASTSS X2, %s", R(1), R(2))
}

// roundFP8 rounds blocks of 64 to E4M3 with a power of two.
func roundFP8(a *asm, v vec) {
	a.fn("roundFP8", "rounds blocks of 64 values through E4M3.", "x *float32", "blocks int")
	a.arg("x", "DI")
	a.arg("blocks", "CX")
	R := v.r
	const mask, floor, limit, one, minus, magic, half, unit, subnormal = 15, 14, 13, 12, 11, 10, 9, 8, 7
	a.constant(0x7fffffff, v, mask)
	a.constant(f32(1e-4), v, floor)
	a.constant(f32(448), v, limit)
	a.constant(f32(1), v, one)
	a.constant(f32(-448), v, minus)
	a.constant(f32(1<<14), v, magic)
	a.constant(0x7ffff, v, half)
	a.constant(1, v, unit)
	a.constant(0x3c800000, v, subnormal)
	suffix := ""
	if v.avx512() {
		suffix = "D"
	}
	a.loop("CX", func() {
		blockScale(a, v, 64, mask, floor, limit, one)
		for i := range 64 / v.lanes {
			a.p("VMULPS %d(DI), %s, %s\nVMAXPS %s, %s, %s\nVMINPS %s, %s, %s", i*v.bytes(), R(2), R(3), R(3), R(minus), R(3), R(3), R(limit), R(3))
			a.p("VPAND%s %s, %s, %s\nVPXOR%s %s, %s, %s", suffix, R(3), R(mask), R(4), suffix, R(3), R(4), R(3)) // magnitude, sign
			// Normal: add half a unit, less one unless the kept part is odd.
			a.p("VPSRLD $20, %s, %s\nVPAND%s %s, %s, %s\nVPADDD %s, %s, %s\nVPADDD %s, %s, %s\nVPSRLD $20, %s, %s\nVPSLLD $20, %s, %s",
				R(4), R(5), suffix, R(5), R(unit), R(5), R(half), R(5), R(5), R(4), R(5), R(5), R(5), R(5), R(5), R(5))
			a.p("VADDPS %s, %s, %s\nVSUBPS %s, %s, %s", R(magic), R(4), R(6), R(magic), R(6), R(6)) // steps of 2^-9
			if v.avx512() {
				a.p("VPCMPGTD Z4, Z%d, K1\nVMOVAPS Z6, K1, Z5", subnormal)
			} else {
				a.p("VPCMPGTD Y4, Y%d, Y4\nVBLENDVPS Y4, Y6, Y5, Y5", subnormal)
			}
			a.p("VPOR%s %s, %s, %s\nVMULPS %s, %s, %s\nVMOVUPS %s, %d(DI)", suffix, R(3), R(5), R(5), R(1), R(5), R(5), R(5), i*v.bytes())
		}
		a.p("ADDQ $256, DI")
	})
	a.end()
}

// roundFP4 rounds blocks of 32 to 0, .5, 1, 1.5, 2, 3, 4, 6 times a power of two.
func roundFP4(a *asm) {
	v := zmm
	a.fn("roundFP4", "rounds blocks of 32 values through FP4.", "x *float32", "blocks int")
	a.arg("x", "DI")
	a.arg("blocks", "CX")
	const mask, floor, limit, one, first = 15, 14, 13, 12, 16
	a.constant(0x7fffffff, v, mask)
	a.constant(f32(6*0x1p-126), v, floor)
	a.constant(f32(6), v, limit)
	a.constant(f32(1), v, one)
	// Above each bound (1e: or on it) the value is so much larger.
	steps := []struct {
		bound, add float32
		on         bool
	}{{.25, .5, false}, {.75, .5, true}, {1.25, .5, false}, {1.75, .5, true}, {2.5, 1, false}, {3.5, 1, true}, {5, 2, false}}
	for i, s := range steps {
		a.constant(f32(s.bound), v, first+i)
	}
	a.constant(f32(.5), v, 23)
	a.constant(f32(2), v, 24)
	add := map[float32]int{.5: 23, 1: one, 2: 24}
	a.loop("CX", func() {
		blockScale(a, v, 32, mask, floor, limit, one)
		for i := range 2 {
			a.p("VMULPS %d(DI), Z2, Z3\nVPANDD Z3, Z%d, Z4\nVPXORD Z3, Z4, Z3\n%s", 64*i, mask, v.zero(5))
			for j, s := range steps {
				predicate := 30 // greater, ordered, quiet
				if s.on {
					predicate = 29 // or equal
				}
				a.p("VCMPPS $%d, Z%d, Z4, K1\nVADDPS Z%d, Z5, K1, Z5", predicate, first+j, add[s.add])
			}
			a.p("VPORD Z3, Z5, Z5\nVMULPS Z1, Z5, Z5\nVMOVUPS Z5, %d(DI)", 64*i)
		}
		a.p("ADDQ $128, DI")
	})
	a.end()
}

// roundF16 rounds to F16.
func roundF16(a *asm, v vec) {
	a.fn("roundF16", "rounds values to F16; n is a multiple of 16.", "x *float32", "n int")
	a.arg("x", "DI")
	a.arg("n", "CX")
	half := "Y0"
	if !v.avx512() {
		half = "X0"
	}
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMOVUPS (DI), %s\nVCVTPS2PH $0, %s, %s\nVCVTPH2PS %s, %s\nVMOVUPS %s, (DI)\nADDQ $%d, DI", v.r(0), v.r(0), half, half, v.r(0), v.r(0), v.bytes())
	})
	a.end()
}

// narrowF16 rounds to F16, which it stores.
func narrowF16(a *asm, v vec) {
	a.fn("narrowF16", "writes values as F16; n is a multiple of 16.", "dst *uint16", "x *float32", "n int")
	a.arg("dst", "SI")
	a.arg("x", "DI")
	a.arg("n", "CX")
	a.loopWhile("CX", v.lanes, func() {
		a.p("VMOVUPS (DI), %s\nVCVTPS2PH $0, %s, (SI)\nADDQ $%d, DI\nADDQ $%d, SI", v.r(0), v.r(0), v.bytes(), v.bytes()/2)
	})
	a.end()
}

// hadamard transforms 128 values, all in registers.
func hadamard(a *asm) {
	a.fn("hadamard", "is the orthonormal Walsh-Hadamard transform of 128 values.", "x *float32")
	a.arg("x", "DI")
	for i := range 8 {
		a.p("VMOVUPS %d(DI), Z%d", 64*i, i)
	}
	// Within a vector: the other half plus, or minus, one's own. Z16 to Z19 hold
	// the signs.
	for i, m := range []uint32{0xaaaa, 0xcccc, 0xf0f0, 0xff00} {
		a.constant(f32(1), zmm, 16+i)
		a.constant(f32(-1), zmm, 20)
		a.p("MOVL $0x%04x, AX\nKMOVW AX, K1\nVMOVAPS Z20, K1, Z%d", m, 16+i)
	}
	for s, swap := range []string{"VPERMILPS $0xb1", "VPERMILPS $0x4e", "VSHUFF32X4 $0xb1", "VSHUFF64X2 $0x4e"} {
		for i := range 8 {
			if s < 2 {
				a.p("%s, Z%d, Z8", swap, i)
			} else {
				a.p("%s, Z%d, Z%d, Z8", swap, i, i)
			}
			a.p("VFMADD231PS Z%d, Z%d, Z8\nVMOVAPS Z8, Z%d", i, 16+s, i)
		}
	}
	for h := 1; h < 8; h *= 2 {
		for i := range 8 {
			if i&h == 0 {
				a.p("VADDPS Z%d, Z%d, Z8\nVSUBPS Z%d, Z%d, Z%d\nVMOVAPS Z8, Z%d", i+h, i, i+h, i, i+h, i)
			}
		}
	}
	a.constant(f32(0.08838834764831845), zmm, 16) // 1/sqrt(128)
	for i := range 8 {
		a.p("VMULPS Z16, Z%d, Z%d\nVMOVUPS Z%d, %d(DI)", i, i, i, 64*i)
	}
	a.end()
}
