package main

// Packed Q4_K and Q2_K on arm64: products with one to four rows, and the expansion
// to panelK. Four rows of the panel at a time, and two input rows.

func (a arm) and(d, n, m int)        { a.three(0x4e201c00, "and.16b", d, n, m) }
func (a arm) orr(d, n, m int)        { a.three(0x4ea01c00, "orr.16b", d, n, m) }
func (a arm) fmul(d, n, m int)       { a.three(0x6e20dc00, "fmul.4s", d, n, m) }
func (a arm) mla(d, n, m int)        { a.three(0x4ea09400, "mla.4s", d, n, m) }
func (a arm) mul8(d, n, m int)       { a.three(0x4e209c00, "mul.16b", d, n, m) }
func (a arm) fneg(d, n int)          { a.two(0x6ea0f800, "fneg.4s", d, n) }
func (a arm) bytesToWords(d, n int)  { a.two(0x2f08a400, "uxtl.8h", d, n) }
func (a arm) wordsToDwords(d, n int) { a.two(0x2f10a400, "uxtl.4s", d, n) }

func (a arm) shiftRight(d, n, bits int) {
	a.word(0x6f000400|uint32((16-bits)<<16|n<<5|d), "ushr.16b v%d, v%d, #%d", d, n, bits)
}

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
// row on, for n input rows; none means the expansion.
func (a arm) directK(name string, head, block int, mask uint32, body func(q, row, n int)) {
	blocks := func(q []int, n int, next func()) {
		a.loop("R2", func() {
			a.p("MOVD R0, R6\nADD $%d, R0, R0\nMOVD $%d, R10", head, kBlocks)
			a.loop("R10", func() {
				for t := range n {
					a.ldrQ(kActs+2*t, 3+t, actCodes)
					a.ldrQ(kActs+2*t+1, 3+t, actCodes+16)
				}
				for i, r := range q {
					body(i, 4*r, n)
				}
				a.p("ADD $%d, R0, R0", block)
				next()
			})
		})
	}
	masks := func() {
		a.word(0x4f00e400|mask>>5<<16|mask&31<<5|kMask, "movi.16b v%d, #%d", kMask, mask)
		a.word(0x4f04e400|kFlip, "movi.16b v%d, #0x80", kFlip)
		a.word(0x4f00e400|15<<5|kLow, "movi.16b v%d, #15", kLow)
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
		a.orr(codes, codes, kFlip)
		a.strQ(codes, 7, 3*4*panelRows+group*g+4*row)
	}
}

func (a arm) q4K() {
	a.directK("Q4K", 128, 576, 15, func(q, row, n int) {
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
	a.directK("Q2K", 128, 320, 3, func(q, row, n int) {
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
