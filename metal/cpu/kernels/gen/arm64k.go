package main

// Packed K-quants on arm64: products with one to four rows, and the expansion to
// panelK. Four rows of the panel at a time, and two input rows.

func (a arm) and(d, n, m int)        { a.three(0x4e201c00, "and.16b", d, n, m) }
func (a arm) orr(d, n, m int)        { a.three(0x4ea01c00, "orr.16b", d, n, m) }
func (a arm) fmul(d, n, m int)       { a.three(0x6e20dc00, "fmul.4s", d, n, m) }
func (a arm) mla(d, n, m int)        { a.three(0x4ea09400, "mla.4s", d, n, m) }
func (a arm) mul8(d, n, m int)       { a.three(0x4e209c00, "mul.16b", d, n, m) }
func (a arm) sub8(d, n, m int)       { a.three(0x6e208400, "sub.16b", d, n, m) }
func (a arm) test8(d, n, m int)      { a.three(0x4e208c00, "cmtst.16b", d, n, m) }
func (a arm) uzp2(d, n, m int)       { a.three(0x4e805800, "uzp2.4s", d, n, m) }
func (a arm) fneg(d, n int)          { a.two(0x6ea0f800, "fneg.4s", d, n) }
func (a arm) bytesToWords(d, n int)  { a.two(0x2f08a400, "uxtl.8h", d, n) }
func (a arm) wordsToDwords(d, n int) { a.two(0x2f10a400, "uxtl.4s", d, n) }

func (a arm) shiftRight(d, n, bits int) {
	a.word(0x6f000400|uint32((16-bits)<<16|n<<5|d), "ushr.16b v%d, v%d, #%d", d, n, bits)
}

// movi8 fills a register with a byte.
func (a arm) movi8(d int, value uint32) {
	a.word(0x4f00e400|value>>5<<16|value&31<<5|uint32(d), "movi.16b v%d, #%d", d, value)
}

// fmovHalf and fmovQuarter are constants.
func (a arm) fmovHalf(d int)    { a.word(0x4f03f400|uint32(d), "fmov.4s v%d, #0.5", d) }
func (a arm) fmovQuarter(d int) { a.word(0x4f02f600|uint32(d), "fmov.4s v%d, #0.25", d) }

func (a arm) fmlsElement(d, n, m, i int) { a.element(0x4f805000, "fmls.4s", d, n, m, i) }

// Registers. R0 is the block, R6 the header of its 256 columns, R3 and R4 the input
// rows, R7 the panel that an expansion writes.
const (
	kAcc   = 0 // integer products of two input rows
	kTotal = 2
	kSum   = 8  // to 15
	kCodes = 16 // to 17
	kTmp   = 18 // to 19
	kActs  = 20 // to 23
	kMask  = 24
	kScale = 25 // to 28
	kOne   = 29
	kFlip  = 30
	kLow   = 31 // another mask
)

// widenBytes makes dwords of the four bytes at base+offset.
func (a arm) widenBytes(d, base, offset int) {
	a.ldrS(d, base, offset)
	a.bytesToWords(d, d)
	a.wordsToDwords(d, d)
}

// halves makes float32 of four F16 in the header.
func (a arm) halves(d, offset int) {
	a.ldrD(d, 6, offset)
	a.widenHalf(d, d)
}

// directK writes the functions of one format. body does four rows of a block, from
// row on, for n input rows; none means the expansion. R11 moves by a byte per row of
// the header for every unroll blocks.
func (a arm) directK(name string, head, block, unroll int, mask uint32, body func(q, row, n, odd int)) {
	blocks := func(q []int, n int, next func()) {
		a.loop("R2", func() {
			a.p("MOVD R0, R6\nMOVD R0, R11\nADD $%d, R0, R0\nMOVD $%d, R10", head, kBlocks/unroll)
			a.loop("R10", func() {
				for odd := range unroll {
					for t := range n {
						a.ldrQ(kActs+2*t, 3+t, actCodes)
						a.ldrQ(kActs+2*t+1, 3+t, actCodes+16)
					}
					for i, r := range q {
						body(i, 4*r, n, odd)
					}
					a.p("ADD $%d, R0, R0", block)
					next()
				}
				a.p("ADD $%d, R11, R11", panelRows)
			})
		})
	}
	masks := func() {
		a.movi8(kMask, mask)
		a.movi8(kFlip, 0x80)
		a.movi8(kLow, 15)
		if name == "IQ2" {
			a.p("MOVD $·gridWords(SB), R9")
		}
	}
	a.fn("gemm"+name, "multiplies a packed K-quant.", "w unsafe.Pointer", "t *Tile", "supers int", "tokens int")
	masks()
	for half := range 2 {
		a.pairs(func(n int) {
			a.load("w", "R0")
			a.load("supers", "R2")
			for t := range n {
				a.p("MOVD %d(R1), R%d", 8*t, 3+t)
				for r := range 4 {
					a.zero(kSum + 4*t + r)
				}
			}
			blocks([]int{4 * half, 4*half + 1, 4*half + 2, 4*half + 3}, n, func() {
				for t := range n {
					a.p("ADD $%d, R%d, R%d", actBlock, 3+t, 3+t)
				}
			})
			for t := range n {
				a.p("MOVD %d(R1), R5", outPtrs+8*t)
				for r := range 4 {
					a.strQ(kSum+4*t+r, 5, 64*half+16*r)
				}
			}
		})
	}
	a.ret()
	a.fn("expand"+name, "makes a PanelK of a packed K-quant.", "dst unsafe.Pointer", "src unsafe.Pointer", "supers int")
	masks()
	a.load("dst", "R7")
	a.load("src", "R0")
	a.load("supers", "R2")
	blocks([]int{0, 1, 2, 3, 4, 5, 6, 7}, 0, func() { a.p("ADD $%d, R7, R7", kBlockBytes) })
	a.ret()
}

// addScaled adds the integers in total, times scale, to the sums q, or stores the
// scale of an expansion.
func (a arm) addScaled(q, row, n, total, scale int) {
	if n == 0 {
		a.strQ(scale, 7, 4*row)
	}
	for t := range n {
		a.ldrS(kOne, 3+t, 0)
		a.fmulElement(kTmp, scale, kOne, 0)
		a.toFloat(total+t, total+t)
		a.fmla(kSum+4*t+q, kTmp, total+t)
	}
}

// subtract subtracts the offset of half h.
func (a arm) subtract(q, row, h, n, offset int) {
	if n == 0 {
		a.fneg(kTmp, offset)
		a.strQ(kTmp, 7, (1+h)*4*panelRows+4*row)
	}
	for t := range n {
		a.ldrS(kOne, 3+t, actHalves+4*h)
		a.fmlsElement(kSum+4*t+q, offset, kOne, 0)
	}
}

// sums adds the products of codes of group g, or stores them.
func (a arm) sums(row, g, n, codes int) {
	for t := range n {
		a.sdot(kAcc+t, codes, kActs+2*t+g/4, g%4)
	}
	if n == 0 {
		a.eor(codes, codes, kFlip)
		a.strQ(codes, 7, 3*4*panelRows+group*g+4*row)
	}
}

func (a arm) q4K() {
	a.directK("Q4K", 128, 576, 1, 15, func(q, row, n, _ int) {
		for t := range n {
			a.zero(kAcc + t)
		}
		for v := range 4 {
			a.ldrQ(kCodes, 0, 64+group*v+4*row)
			a.and(kCodes+1, kCodes, kMask)
			a.sums(row, v, n, kCodes+1)
			a.shiftRight(kCodes, kCodes, 4)
			a.sums(row, 4+v, n, kCodes)
		}
		for i := range 2 { // scale and minimum
			a.widenBytes(kScale, 0, panelRows*i+row)
			a.toFloat(kScale, kScale)
			a.halves(kScale+1, 2*panelRows*i+2*row)
			a.fmul(kScale, kScale, kScale+1)
			if i == 0 {
				a.addScaled(q, row, n, kAcc, kScale)
				continue
			}
			for h := range 2 {
				a.subtract(q, row, h, n, kScale)
			}
		}
	})
}

func (a arm) q2K() {
	a.directK("Q2K", 128, 320, 1, 3, func(q, row, n, _ int) {
		for t := range n {
			a.zero(kTotal + t)
		}
		for h := range 2 {
			for t := range n {
				a.zero(kAcc + t)
			}
			a.ldrS(kScale, 0, panelRows*h+row)
			a.and(kScale, kScale, kLow)
			a.bytesToWords(kScale, kScale)
			a.wordsToDwords(kScale, kScale)
			if n == 0 { // the scale in every byte of its dword
				for bits := 8; bits <= 16; bits *= 2 {
					a.word(0x4f005400|uint32((32+bits)<<16|kScale<<5|kScale+1), "shl.4s v%d, v%d, #%d", kScale+1, kScale, bits)
					a.orr(kScale, kScale, kScale+1)
				}
			}
			a.ldrQ(kCodes, 0, 64+group*h+4*row)
			for s := range 4 {
				a.and(kCodes+1, kCodes, kMask)
				if n == 0 {
					a.mul8(kCodes+1, kCodes+1, kScale)
				}
				a.sums(row, 4*h+s, n, kCodes+1)
				if s < 3 {
					a.shiftRight(kCodes, kCodes, 2)
				}
			}
			for t := range n {
				a.mla(kTotal+t, kAcc+t, kScale)
			}
		}
		a.halves(kScale, 2*row)
		a.addScaled(q, row, n, kTotal, kScale)
		for h := range 2 {
			a.ldrS(kScale, 0, panelRows*h+row)
			a.shiftRight(kScale, kScale, 4)
			a.bytesToWords(kScale, kScale)
			a.wordsToDwords(kScale, kScale)
			a.toFloat(kScale, kScale)
			a.halves(kScale+1, 2*panelRows+2*row)
			a.fmul(kScale, kScale, kScale+1)
			a.subtract(q, row, h, n, kScale)
		}
	})
}

// point loads the grid point p of a row into half of a register.
func (a arm) point(d, half, row, p int) {
	a.p("MOVBU %d(R0), R8\nADD R8<<3, R9, R8", 4*row+p)
	if half == 0 {
		a.ldrD(d, 8, 0)
	} else {
		a.word(uint32(0x4d408400|8<<5|d), "ld1 v%d.d[1], [R8]", d)
	}
}

func (a arm) iq2() {
	const signs, bit, minus, lo, hi = 26, 27, 28, kTotal, kTotal + 1
	a.directK("IQ2", 192, 256, 2, 15, func(q, row, n, odd int) {
		for t := range n {
			a.zero(kAcc + t)
		}
		a.ldrQ(signs, 0, group+4*row)
		for p := range 4 {
			for r := range 4 {
				a.point(lo+r/2, r%2, row+r, p)
			}
			a.uzp1(kCodes, lo, hi)
			a.uzp2(kCodes+1, lo, hi)
			for i := range 2 {
				a.movi8(bit, 1<<(2*p+i))
				a.test8(minus, signs, bit)
				a.eor(kCodes+i, kCodes+i, minus)
				a.sub8(kCodes+i, kCodes+i, minus)
				a.sums(row, 2*p+i, n, kCodes+i)
			}
		}
		a.ldrS(kScale, 11, 2*panelRows+row)
		if odd == 1 {
			a.shiftRight(kScale, kScale, 4)
		}
		a.and(kScale, kScale, kLow)
		a.bytesToWords(kScale, kScale)
		a.wordsToDwords(kScale, kScale)
		a.toFloat(kScale, kScale)
		a.fmovHalf(bit)
		a.fadd(kScale, bit, kScale)
		a.halves(bit, 2*row)
		a.fmul(kScale, bit, kScale)
		a.fmovQuarter(bit)
		a.fmul(kScale, bit, kScale)
		a.addScaled(q, row, n, kAcc, kScale)
		a.zero(bit)
		for h := range 2 { // what adding zero does: -0 becomes 0
			if n == 0 {
				a.strQ(bit, 7, (1+h)*4*panelRows+4*row)
			}
			for t := range n {
				a.ldrS(kOne, 3+t, actHalves+4*h)
				a.fmlaElement(kSum+4*t+q, bit, kOne, 0)
			}
		}
	})
}
