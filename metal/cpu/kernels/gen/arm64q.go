package main

// Rounding of activations to int8 on arm64.

func (a arm) fabs(d, n int)       { a.two(0x4ea0f800, "fabs.4s", d, n) }
func (a arm) fmaxAcross(d, n int) { a.two(0x6e30f800, "fmaxv.4s", d, n) }
func (a arm) addAcross(d, n int)  { a.two(0x4eb1b800, "addv.4s", d, n) }
func (a arm) nearest(d, n int)    { a.two(0x4e21a800, "fcvtns.4s", d, n) }
func (a arm) add(d, n, m int)     { a.three(0x4ea08400, "add.4s", d, n, m) }

// narrow makes bytes of the dwords of four registers from n on.
func (a arm) narrow(d, n, tmp int) {
	a.two(0x0e614800, "sqxtn.4h", tmp, n)
	a.two(0x4e614800, "sqxtn2.8h", tmp, n+1)
	a.two(0x0e214800, "sqxtn.8b", d, tmp)
	a.two(0x0e614800, "sqxtn.4h", tmp, n+2)
	a.two(0x4e614800, "sqxtn2.8h", tmp, n+3)
	a.two(0x4e214800, "sqxtn2.16b", d, tmp)
}

// quantRows are quantRow and quantExact, see those of amd64.
func (a arm) quantRows() {
	a.quantRow("quantRow", "rounds blocks of 32 values to int8.", false)
	a.quantRow("quantExact", "makes int8 of blocks of 32 values that have few bits.", true)
}

func (a arm) quantRow(name, doc string, exact bool) {
	a.fn(name, doc, "dst unsafe.Pointer", "x *float32", "blocks int")
	const (
		x, tmp, most        = 0, 8, 10 // x are eight registers
		scale, inv          = 11, 12
		top, tiny, one, sum = 13, 14, 15, 16 // sum is two registers
	)
	a.load("dst", "R0")
	a.load("x", "R1")
	a.load("blocks", "R2")
	constant := func(reg int, bits uint32) { a.p("MOVW $0x%08x, R3\nFMOVS R3, F%d", bits, reg) }
	constant(top, f32(127))
	constant(tiny, f32(0x1p-100))
	constant(one, f32(1))
	a.loop("R2", func() {
		for i := range 8 {
			a.ldrQ(x+i, 1, 16*i)
			a.fabs(tmp, x+i)
			if i == 0 {
				a.fabs(most, x)
				continue
			}
			a.fmax(most, most, tmp)
		}
		a.fmaxAcross(most, most)
		if exact {
			const bits = 5 // below the highest
			a.p("FMAXS F%d, F%d, F%d\nFMOVS F%d, R3\nAND $0x7f800000, R3, R3\nMOVW $%d, R4\nSUBW R4, R3, R3\nMOVW $%d, R4\nSUBW R3, R4, R4\nFMOVS R3, F%d\nFMOVS R4, F%d",
				tiny, most, scale, scale, bits<<23, 254<<23, scale, inv)
		} else {
			a.p("FDIVS F%d, F%d, F%d\nFMAXS F%d, F%d, F%d\nFDIVS F%d, F%d, F%d", top, most, scale, tiny, scale, inv, inv, one, inv)
		}
		a.p("FSUBS F%d, F%d, F%d\nFADDS F%d, F%d, F%d", most, most, tmp, tmp, scale, scale) // NaN if it is not finite
		for i := range 8 {
			a.fmulElement(x+i, x+i, inv, 0)
			a.nearest(x+i, x+i)
		}
		a.p("FMOVS F%d, (R0)", scale)
		for h := range 2 {
			a.narrow(tmp, x+4*h, tmp+1)
			a.strQ(tmp, 0, actCodes+16*h)
			a.add(x+4*h, x+4*h, x+4*h+1)
			a.add(x+4*h+2, x+4*h+2, x+4*h+3)
			a.add(x+4*h, x+4*h, x+4*h+2)
			a.addAcross(sum+h, x+4*h)
		}
		a.add(tmp, sum, sum+1)
		a.p("FMOVS F%d, R3\nLSLW $7, R3, R3\nNEGW R3, R3\nMOVW R3, 4(R0)", tmp)
		for h := range 2 {
			a.toFloat(sum+h, sum+h)
			a.p("FMULS F%d, F%d, F%d\nFMOVS F%d, %d(R0)", scale, sum+h, tmp, tmp, actHalves+4*h)
		}
		a.p("ADD $%d, R0, R0\nADD $128, R1, R1", actBlock)
	})
	a.ret()
}
