package main

import "fmt"

// arm64 with the dot product extension. Go's assembler lacks most of the vector
// instructions, so they are encoded here; a comment says what each one is.

// arm writes instructions of arm64. Registers v0 to v31 are given by number, those
// for addresses as R0 and on.
type arm struct{ *asm }

func (a arm) word(code uint32, format string, args ...any) {
	a.p("WORD $0x%08x // %s", code, fmt.Sprintf(format, args...))
}

func (a arm) load(name, reg string) { a.p("MOVD %s, %s", a.params[name], reg) }

func (a arm) ret() { a.p("RET") }

// loop repeats body reg times, at least once.
func (a arm) loop(reg string, body func()) {
	l := a.newLabel("loop")
	a.p("%s:", l)
	body()
	a.p("SUBS $1, %s, %s\nBNE %s", reg, reg, l)
}

// three are instructions d = n op m on whole registers.
func (a arm) three(code uint32, name string, d, n, m int) {
	a.word(code|uint32(m<<16|n<<5|d), "%s v%d, v%d, v%d", name, d, n, m)
}

func (a arm) two(code uint32, name string, d, n int) {
	a.word(code|uint32(n<<5|d), "%s v%d, v%d", name, d, n)
}

func (a arm) zero(d int)          { a.three(0x6e201c00, "eor.16b", d, d, d) }
func (a arm) eor(d, n, m int)     { a.three(0x6e201c00, "eor.16b", d, n, m) }
func (a arm) fadd(d, n, m int)    { a.three(0x4e20d400, "fadd.4s", d, n, m) }
func (a arm) faddp(d, n, m int)   { a.three(0x6e20d400, "faddp.4s", d, n, m) }
func (a arm) fmla(d, n, m int)    { a.three(0x4e20cc00, "fmla.4s", d, n, m) }
func (a arm) fmax(d, n, m int)    { a.three(0x4e20f400, "fmax.4s", d, n, m) }
func (a arm) uzp1(d, n, m int)    { a.three(0x4e801800, "uzp1.4s", d, n, m) }
func (a arm) swap(d, n int)       { a.three(0x6e004000|8<<11, "ext.16b #8:", d, n, n) }
func (a arm) toFloat(d, n int)    { a.two(0x4e21d800, "scvtf.4s", d, n) }
func (a arm) widenHalf(d, n int)  { a.two(0x0e217800, "fcvtl.4s", d, n) }
func (a arm) widenHalf2(d, n int) { a.two(0x4e217800, "fcvtl2.4s", d, n) }
func (a arm) widenBF(d, n int)    { a.two(0x2e613800, "shll.4s #16,", d, n) }
func (a arm) widenBF2(d, n int)   { a.two(0x6e613800, "shll2.4s #16,", d, n) }

// element are instructions with lane i of m, of four.
func (a arm) element(code uint32, name string, d, n, m, i int) {
	a.word(code|uint32(i&1<<21|i>>1<<11|m<<16|n<<5|d), "%s v%d, v%d, v%d[%d]", name, d, n, m, i)
}

func (a arm) sdot(d, n, m, i int)        { a.element(0x4f80e000, "sdot.4s", d, n, m, i) }
func (a arm) fmlaElement(d, n, m, i int) { a.element(0x4f801000, "fmla.4s", d, n, m, i) }
func (a arm) fmulElement(d, n, m, i int) { a.element(0x4f809000, "fmul.4s", d, n, m, i) }

// memory instructions have an offset that is a multiple of their size.
func (a arm) memory(code uint32, name string, size, d, base, offset int) {
	if offset%size != 0 || offset/size >= 1<<12 {
		panic(fmt.Sprintf("offset %d of %s", offset, name))
	}
	a.word(code|uint32(offset/size<<10|base<<5|d), "%s%d, [R%d, #%d]", name, d, base, offset)
}

func (a arm) ldrQ(d, base, offset int) { a.memory(0x3dc00000, "ldr q", 16, d, base, offset) }
func (a arm) strQ(d, base, offset int) { a.memory(0x3d800000, "str q", 16, d, base, offset) }
func (a arm) ldrD(d, base, offset int) { a.memory(0xfd400000, "ldr d", 8, d, base, offset) }
func (a arm) ldrS(d, base, offset int) { a.memory(0xbd400000, "ldr s", 4, d, base, offset) }

// dotprod is the set for arm64 with ASIMDDP.
func dotprod() *asm {
	b := &asm{suffix: "DotProd"}
	a := arm{b}
	for _, p := range []int8Panel{panelQ8, panelK, panelI8} {
		a.gemmInt8(p, false)
	}
	for _, f := range floats {
		a.gemmFloat(f.name, f.bytes)
	}
	for _, form := range cacheRowForms {
		a.scores(form)
		a.sumRows(form)
	}
	a.indexAdd()
	a.quantRows()
	a.q4K()
	a.q2K()
	a.iq2()
	return b
}

// pairs runs body for two input rows at a time, and for the last one alone. R1 is
// the tile from the current row on.
func (a arm) pairs(body func(n int)) {
	next, single, done := a.newLabel("pair"), a.newLabel("single"), a.newLabel("done")
	a.load("t", "R1")
	a.load("tokens", "R12")
	a.p("%s:\nCMP $2, R12\nBLT %s", next, single)
	body(2)
	a.p("ADD $16, R1, R1\nSUB $2, R12, R12\nB %s\n%s:\nCBZ R12, %s", next, single, done)
	body(1)
	a.p("%s:", done)
}

// gemmInt8 takes 16 rows of the panel and two input rows at a time. mixed says that
// there are products of unsigned codes with signed ones.
func (a arm) gemmInt8(p int8Panel, mixed bool) {
	a.fn(p.name, "multiplies an int8 panel.", "w unsafe.Pointer", "t *Tile", "blocks int", "tokens int")
	const (
		acc, sum = 0, 8 // four vectors of each input row
		codes    = 16   // to 19
		acts     = 20   // to 23
		flip     = 24
		scale    = 25 // to 28
		one, tmp = 29, 30
	)
	if !mixed {
		a.word(0x4f04e400|flip, "movi.16b v%d, #0x80", flip)
	}
	for half := range 2 {
		a.pairs(func(n int) {
			a.load("w", "R0")
			a.load("blocks", "R2")
			for t := range n {
				a.p("MOVD %d(R1), R%d", 8*t, 3+t)
				for r := range 4 {
					a.zero(sum + 4*t + r)
				}
			}
			a.loop("R2", func() {
				for t := range n {
					a.ldrQ(acts+2*t, 3+t, actCodes)
					a.ldrQ(acts+2*t+1, 3+t, actCodes+16)
					if mixed {
						a.ldrS(one, 3+t, 4) // -128 times the sum of codes
					}
					for r := range 4 {
						if mixed {
							a.dup(acc+4*t+r, one)
						} else {
							a.zero(acc + 4*t + r)
						}
					}
				}
				for g := range 8 {
					for r := range 4 {
						a.ldrQ(codes+r, 0, p.header+g*group+64*half+16*r)
						if !mixed {
							a.eor(codes+r, codes+r, flip)
						}
						for t := range n {
							if mixed {
								a.usdot(acc+4*t+r, codes+r, acts+2*t+g/4, g%4)
							} else {
								a.sdot(acc+4*t+r, codes+r, acts+2*t+g/4, g%4)
							}
						}
					}
				}
				for r := range 4 {
					row := 16*half + 4*r
					if p.wide {
						a.ldrQ(scale+r, 0, 4*row)
					} else {
						a.ldrD(scale+r, 0, 2*row)
						a.widenHalf(scale+r, scale+r)
					}
				}
				for t := range n {
					a.ldrS(one, 3+t, 0)
					for r := range 4 {
						a.fmulElement(tmp, scale+r, one, 0)
						a.toFloat(acc+4*t+r, acc+4*t+r)
						a.fmla(sum+4*t+r, tmp, acc+4*t+r)
					}
				}
				for h := range 2 {
					if !p.offsets {
						break
					}
					for r := range 4 {
						a.ldrQ(scale+r, 0, (1+h)*4*panelRows+4*(16*half+4*r))
					}
					for t := range n {
						a.ldrS(one, 3+t, actHalves+4*h)
						for r := range 4 {
							a.fmlaElement(sum+4*t+r, scale+r, one, 0)
						}
					}
				}
				a.p("ADD $%d, R0, R0", p.header+codeBytes)
				for t := range n {
					a.p("ADD $%d, R%d, R%d", actBlock, 3+t, 3+t)
				}
			})
			for t := range n {
				a.p("MOVD %d(R1), R5", outPtrs+8*t)
				for r := range 4 {
					a.strQ(sum+4*t+r, 5, 64*half+16*r)
				}
			}
		})
	}
	a.ret()
}

// gemmFloat takes all rows of the panel and two input rows at a time, four columns
// per round.
func (a arm) gemmFloat(name string, bytes int) {
	a.fn("gemm"+name, "multiplies a panel; cols is a multiple of 4.", "w unsafe.Pointer", "t *Tile", "cols int", "tokens int")
	const sum, wide, in, raw = 0, 16, 24, 26
	a.pairs(func(n int) {
		a.load("w", "R0")
		a.load("cols", "R2")
		a.p("LSR $2, R2, R2")
		for t := range n {
			a.p("MOVD %d(R1), R%d", 8*t, 3+t)
			for r := range 8 {
				a.zero(sum + 8*t + r)
			}
		}
		a.loop("R2", func() {
			for t := range n {
				a.ldrQ(in+t, 3+t, 0)
			}
			for k := range 4 {
				at := k * panelRows * bytes
				for r := 0; r < 8; r += 2 {
					switch name {
					case "F32":
						a.ldrQ(wide+r, 0, at+16*r)
						a.ldrQ(wide+r+1, 0, at+16*r+16)
					case "F16":
						a.ldrQ(raw, 0, at+8*r)
						a.widenHalf(wide+r, raw)
						a.widenHalf2(wide+r+1, raw)
					default:
						a.ldrQ(raw, 0, at+8*r)
						a.widenBF(wide+r, raw)
						a.widenBF2(wide+r+1, raw)
					}
				}
				for t := range n {
					for r := range 8 {
						a.fmlaElement(sum+8*t+r, wide+r, in+t, k)
					}
				}
			}
			a.p("ADD $%d, R0, R0", 4*panelRows*bytes)
			for t := range n {
				a.p("ADD $16, R%d, R%d", 3+t, 3+t)
			}
		})
		for t := range n {
			a.p("MOVD %d(R1), R5", outPtrs+8*t)
			for r := range 8 {
				a.strQ(sum+8*t+r, 5, 16*r)
			}
		}
	})
	a.ret()
}

// loadRow loads n vectors of values of a row, an even number.
func (a arm) loadRow(form cacheRows, d, base, n int) {
	if form.bytes == 4 {
		for i := range n {
			a.ldrQ(d+i, base, 16*i)
		}
		return
	}
	for i := 0; i < n; i += 2 {
		a.ldrQ(d+i+1, base, 8*i)
		a.widenHalf(d+i, d+i+1)
		a.widenHalf2(d+i+1, d+i+1)
	}
}

// scores multiplies one row with four heads at a time, in 16 lanes.
func (a arm) scores(form cacheRows) {
	a.fn("attendScores"+form.suffix, "multiplies rows, two at a time, with eight heads; width is a multiple of 16.",
		"q *float32", "rows *unsafe.Pointer", "s *float32", "pairs int", "width int", "scale float32")
	const row, q, scale = 16, 20, 24 // sums are 0 to 15
	a.load("rows", "R1")
	a.load("s", "R2")
	a.load("pairs", "R3")
	a.load("width", "R4")
	a.p("LSL $1, R3, R3\nLSL $2, R4, R5\nFMOVS %s, F%d", a.params["scale"], scale)
	a.loop("R3", func() {
		a.load("q", "R0")
		for h0 := 0; h0 < heads; h0 += 4 {
			a.p("MOVD (R1), R6\nMOVD R0, R7\nADD R5, R7, R8\nADD R5, R8, R9\nADD R5, R9, R10\nLSR $4, R4, R11")
			for i := range 16 {
				a.zero(i)
			}
			a.loop("R11", func() {
				a.loadRow(form, row, 6, 4)
				for h := range 4 {
					for i := range 4 {
						a.ldrQ(q+i, 7+h, 16*i)
						a.fmla(4*h+i, q+i, row+i)
					}
				}
				a.p("ADD $%d, R6, R6", 16*form.bytes)
				for h := range 4 {
					a.p("ADD $64, R%d, R%d", 7+h, 7+h)
				}
			})
			for h := range 4 {
				a.fadd(4*h, 4*h, 4*h+2)
				a.fadd(4*h+1, 4*h+1, 4*h+3)
				a.fadd(4*h, 4*h, 4*h+1)
				a.swap(4*h+1, 4*h)
				a.fadd(4*h, 4*h, 4*h+1)
			}
			a.faddp(0, 0, 4)
			a.faddp(8, 8, 12)
			a.uzp1(0, 0, 8)
			a.fmulElement(0, 0, scale, 0)
			a.strQ(0, 2, 4*h0)
			a.p("ADD R5<<2, R0, R0")
		}
		a.p("ADD $8, R1, R1\nADD $32, R2, R2")
	})
	a.ret()
}

// sumRows adds eight columns of all rows for eight heads at a time.
func (a arm) sumRows(form cacheRows) {
	a.fn("attendSum"+form.suffix, "adds to out rows weighted for eight heads, and multiplies with inv; width is a multiple of 16.",
		"p *float32", "rows *unsafe.Pointer", "out *float32", "inv *float32", "n int", "width int")
	const row, weights, inv = 16, 18, 20 // sums are 0 to 15
	a.load("out", "R2")
	a.load("inv", "R3")
	a.load("width", "R5")
	a.ldrQ(inv, 3, 0)
	a.ldrQ(inv+1, 3, 16)
	a.p("LSL $2, R5, R6\nLSR $3, R5, R5\nMOVD $0, R7\nMOVD $0, R9") // offsets in out and in rows
	a.loop("R5", func() {
		a.load("p", "R0")
		a.load("rows", "R1")
		a.load("n", "R4")
		a.p("ADD R7, R2, R8")
		for h := range heads {
			a.ldrQ(2*h, 8, 0)
			a.ldrQ(2*h+1, 8, 16)
			a.p("ADD R6, R8, R8")
		}
		a.loop("R4", func() {
			a.p("MOVD (R1), R8\nADD R9, R8, R8")
			a.loadRow(form, row, 8, 2)
			a.ldrQ(weights, 0, 0)
			a.ldrQ(weights+1, 0, 16)
			for h := range heads {
				for i := range 2 {
					a.fmlaElement(2*h+i, row+i, weights+h/4, h%4)
				}
			}
			a.p("ADD $8, R1, R1\nADD $32, R0, R0")
		})
		a.p("ADD R7, R2, R8")
		for h := range heads {
			for i := range 2 {
				a.fmulElement(2*h+i, 2*h+i, inv+h/4, h%4)
				a.strQ(2*h+i, 8, 16*i)
			}
			a.p("ADD R6, R8, R8")
		}
		a.p("ADD $32, R7, R7\nADD $%d, R9, R9", 8*form.bytes)
	})
	a.ret()
}

// indexAdd adds the positive scores of 32 rows, times the weight of their head.
func (a arm) indexAdd() {
	a.fn("indexAdd", "adds weighted positive scores of 32 rows, head by head.", "dst *float32", "s *float32", "w *float32", "heads int")
	const zero, weight = 16, 17
	a.load("dst", "R0")
	a.load("s", "R1")
	a.load("w", "R2")
	a.load("heads", "R3")
	a.zero(zero)
	for i := range 8 {
		a.ldrQ(i, 0, 16*i)
	}
	a.loop("R3", func() {
		a.ldrS(weight, 2, 0)
		for i := range 8 {
			a.ldrQ(8+i, 1, 16*i)
			a.fmax(8+i, 8+i, zero)
			a.fmlaElement(i, 8+i, weight, 0)
		}
		a.p("ADD $%d, R1, R1\nADD $4, R2, R2", 4*panelRows)
	})
	for i := range 8 {
		a.strQ(i, 0, 16*i)
	}
	a.ret()
}
