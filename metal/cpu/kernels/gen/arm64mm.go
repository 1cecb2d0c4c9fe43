package main

// arm64 with the 8-bit matrix multiplication extension. Its products take the codes
// of panels unsigned, as those of AVX-512 do, so the offset of 128 is the initial
// value of the sums and nothing is flipped. One or two input rows use USDOT. More of
// them use USMMLA, which multiplies two weight rows with two input rows, eight
// columns at a time: a group of four columns has four rows in a register, so ZIP of
// two groups makes the two operands of four rows.

func (a arm) usdot(d, n, m, i int) { a.element(0x4f80f000, "usdot.4s", d, n, m, i) }
func (a arm) usmmla(d, n, m int)   { a.three(0x4e80ac00, "usmmla.4s", d, n, m) }
func (a arm) zip1(d, n, m int)     { a.three(0x4e803800, "zip1.4s", d, n, m) }
func (a arm) zip2(d, n, m int)     { a.three(0x4e807800, "zip2.4s", d, n, m) }
func (a arm) trn1(d, n, m int)     { a.three(0x4e802800, "trn1.4s", d, n, m) }
func (a arm) trn2(d, n, m int)     { a.three(0x4e806800, "trn2.4s", d, n, m) }
func (a arm) dup(d, n int)         { a.two(0x4e040400, "dup.4s [0]", d, n) }

// dupPair repeats pair i of four values.
func (a arm) dupPair(d, n, i int) {
	a.word(0x4e080400|uint32(i<<20|n<<5|d), "dup.2d v%d, v%d[%d]", d, n, i)
}

// nextHigh loads the upper half of a register from base, which moves behind it.
func (a arm) nextHigh(d, base int) {
	a.word(0x4ddf8400|uint32(base<<5|d), "ld1 v%d.d[1], [R%d], #8", d, base)
}

// ldurQ is ldrQ with any offset from -256 to 255.
func (a arm) ldurQ(d, base, offset int) {
	a.word(0x3cc00000|uint32(offset&0x1ff<<12|base<<5|d), "ldur q%d, [R%d, #%d]", d, base, offset)
}

// i8mm is what the set for arm64 with ASIMDDP and I8MM has of its own.
func i8mm() *asm {
	b := &asm{suffix: "I8MM"}
	a := arm{b}
	for _, p := range []int8Panel{panelQ8, panelK, panelI8} {
		a.gemmInt8(p, true)
		a.gemmPairs(p)
	}
	return b
}

// Registers of gemmPairs. R0 are the codes of eight rows, R10 their scales and R12
// how far into a group of columns they are; R3 to R8 the input rows, of which those
// with an even number stay at the start of a block; R1 is the tile, R13 the number
// of input rows. A sum has two rows of the panel and a pair of input rows:
// [row 0 of a, row 0 of b, row 1 of a, row 1 of b].
const (
	mmSum   = 0  // four vectors of each pair
	mmAcc   = 12 // the same
	mmActs  = 24 // to 26
	mmCodes = 27 // to 31
	mmScale = 24 // to 27, after the products
	mmRows  = 8  // of the panel at a time
)

// gemmPairs takes eight rows of the panel and all input rows at a time.
func (a arm) gemmPairs(p int8Panel) {
	a.fn(p.name+"Pairs", "multiplies an int8 panel with three to six rows.", "w unsafe.Pointer", "t *Tile", "blocks int", "tokens int")
	two := a.newLabel("two")
	a.load("t", "R1")
	a.load("tokens", "R13")
	a.p("CMP $5, R13\nBLT %s", two)
	a.pairsOf(p, 3)
	a.p("%s:", two)
	a.pairsOf(p, 2)
}

func (a arm) pairsOf(p int8Panel, pairs int) {
	group := a.newLabel("rows")
	a.p("MOVD $0, R12\n%s:", group)
	a.load("w", "R0")
	a.load("blocks", "R2")
	if p.wide {
		a.p("ADD R12, R0, R10")
	} else {
		a.p("ADD R12>>1, R0, R10")
	}
	a.p("ADD $%d, R0, R0\nADD R12, R0, R0", p.header)
	for t := range 2 * pairs {
		a.p("MOVD %d(R1), R%d", 8*t, 3+t)
	}
	a.lastTwice(2+2*pairs, 1+2*pairs)
	for i := range 4 * pairs {
		a.zero(mmSum + i)
	}
	a.loop("R2", func() {
		a.pairProducts(pairs)
		a.pairScales(p, pairs)
		a.p("ADD $%d, R0, R0\nADD $%d, R10, R10", p.header+codeBytes, p.header+codeBytes)
		for j := range pairs {
			a.p("ADD $%d, R%d, R%d", actBlock, 3+2*j, 3+2*j)
		}
	})
	for j := range pairs {
		a.p("MOVD %d(R1), R14\nMOVD %d(R1), R15", outPtrs+16*j, outPtrs+16*j+8)
		if j == pairs-1 {
			a.lastTwice(15, 14)
		}
		a.p("ADD R12, R14, R14\nADD R12, R15, R15")
		for v := range 2 {
			s := mmSum + 4*j + 2*v
			a.uzp1(mmCodes, s, s+1)
			a.uzp2(mmCodes+1, s, s+1)
			a.strQ(mmCodes, 14, 16*v)
			a.strQ(mmCodes+1, 15, 16*v)
		}
	}
	a.p("ADD $%d, R12, R12\nCMP $%d, R12\nBLT %s", 4*mmRows, 4*panelRows, group)
	a.ret()
}

// lastTwice lets the second of the last pair be the first if there is none.
func (a arm) lastTwice(second, first int) {
	even := a.newLabel("even")
	a.p("TBZ $0, R13, %s\nMOVD R%d, R%d\n%s:", even, first, second, even)
}

// pairProducts sums the integer products of a block. It moves the input rows with
// an odd number to the next block.
func (a arm) pairProducts(pairs int) {
	for j := range pairs {
		a.ldrQ(mmCodes, 3+2*j, 0)
		a.ldrQ(mmCodes+1, 4+2*j, 0)
		a.p("ADD $%d, R%d, R%d", actCodes, 4+2*j, 4+2*j)
		a.trn2(mmCodes, mmCodes, mmCodes+1) // -128 times the sums of codes, and the scaled sums of second halves
		for i := range 4 {
			a.dupPair(mmAcc+4*j+i, mmCodes, 0)
		}
	}
	for g := 0; g < 8; g += 2 {
		for j := range pairs {
			a.ldrD(mmActs+j, 3+2*j, actCodes+4*g)
			a.nextHigh(mmActs+j, 4+2*j)
		}
		for v, reg := range [][3]int{{mmCodes, mmCodes + 1, mmCodes + 2}, {mmCodes + 3, mmCodes + 4, mmCodes}} {
			first, second, low := reg[0], reg[1], reg[2]
			a.ldrQ(first, 0, g*group+16*v)
			a.ldrQ(second, 0, (g+1)*group+16*v)
			a.zip1(low, first, second)
			a.zip2(second, first, second)
			for j := range pairs {
				a.usmmla(mmAcc+4*j+2*v, low, mmActs+j)
				a.usmmla(mmAcc+4*j+2*v+1, second, mmActs+j)
			}
		}
	}
}

// pairScales adds the products of a block to the sums, and what offsets contribute.
func (a arm) pairScales(p int8Panel, pairs int) {
	const raw, one, tmp = mmCodes + 1, mmCodes + 3, mmCodes + 4
	// twice makes vectors of two rows out of those of four in raw and raw+1.
	twice := func() {
		for i := range 2 {
			a.zip1(mmScale+2*i, raw+i, raw+i)
			a.zip2(mmScale+2*i+1, raw+i, raw+i)
		}
	}
	for i := range 2 {
		if p.wide {
			a.ldrQ(raw+i, 10, 16*i)
		} else {
			a.ldrD(raw+i, 10, 8*i)
			a.widenHalf(raw+i, raw+i)
		}
	}
	twice()
	header := func(j int) {
		a.ldrQ(raw, 3+2*j, 0)
		a.ldurQ(raw+1, 4+2*j, -actBlock)
	}
	for j := range pairs {
		header(j)
		a.trn1(one, raw, raw+1)
		a.dupPair(one, one, 0)
		for i := range 4 {
			acc := mmAcc + 4*j + i
			a.fmul(tmp, mmScale+i, one)
			a.toFloat(acc, acc)
			a.fmla(mmSum+4*j+i, tmp, acc)
		}
	}
	for half := range 2 {
		if !p.offsets {
			break
		}
		for i := range 2 {
			a.ldrQ(raw+i, 10, (1+half)*4*panelRows+16*i)
		}
		twice()
		for j := range pairs {
			header(j)
			if half == 0 {
				a.trn1(one, raw, raw+1)
			} else {
				a.trn2(one, raw, raw+1)
			}
			a.dupPair(one, one, 1)
			for i := range 4 {
				a.fmla(mmSum+4*j+i, mmScale+i, one)
			}
		}
	}
}
