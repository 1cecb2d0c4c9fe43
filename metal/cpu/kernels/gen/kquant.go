package main

// Unpacking of K-quants: 256 codes of a row with flipped sign bits, and the codes
// of 32 rows into a panel. AVX-512 only.

// table defines constants in memory, 64 bytes as dwords.
func (a *asm) table(name string, dwords [16]uint32) {
	for i, d := range dwords {
		a.p("DATA %s<>+%d(SB)/4, $0x%08x", name, 4*i, d)
	}
	a.p("GLOBL %s<>(SB), RODATA|NOPTR, $64", name)
}

func unpackK(a *asm) {
	row := func(name string) {
		a.fn(name, "unpacks 256 codes.", "codes unsafe.Pointer", "row unsafe.Pointer")
		a.arg("codes", "DI")
		a.arg("row", "SI")
	}
	// shifts[i] moves planes i and i+1 of 2-bit codes, or nibbles, into place.
	halves := func(lo, hi uint32) (t [16]uint32) {
		for i := range t {
			t[i] = lo
			if i >= 8 {
				t[i] = hi
			}
		}
		return
	}
	a.table("shift04", halves(0, 4))
	a.table("shift02", halves(0, 2))
	a.table("shift46", halves(4, 6))

	row("unpackQ4")
	a.p("VMOVDQU64 shift04<>(SB), Z31")
	a.constant(0x0f0f0f0f, zmm, 30)
	a.constant(0x80808080, zmm, 29)
	for t := range 4 {
		a.p("VBROADCASTI64X4 %d(SI), Z0\nVPSRLVD Z31, Z0, Z0\nVPANDD Z30, Z0, Z0\nVPORD Z29, Z0, Z0\nVMOVDQU64 Z0, %d(DI)", 16+32*t, 64*t)
	}
	a.end()

	var words [16]uint32 // byte i of a lane's dword as words, in lane i
	for i := range words {
		words[i] = uint32(i/4)*0x00010001 | 0x80008000
	}
	a.table("scaleWords", words)
	row("unpackQ2")
	a.p("VMOVDQU64 shift02<>(SB), Z31\nVMOVDQU64 shift46<>(SB), Z28\nVMOVDQU64 scaleWords<>(SB), Z27")
	a.constant(0x03030303, zmm, 30)
	a.constant(0x80808080, zmm, 29)
	a.constant(0x0f0f0f0f, zmm, 26)
	for j := range 4 {
		shift := []int{31, 28}[j%2]
		a.p("VBROADCASTI64X4 %d(SI), Z0\nVPSRLVD Z%d, Z0, Z0\nVPANDD Z30, Z0, Z0", 16+32*(j/2), shift)
		a.p("VPBROADCASTD %d(SI), Z1\nVPANDD Z26, Z1, Z1\nVPSHUFB Z27, Z1, Z1\nVPMULLW Z1, Z0, Z0\nVPORD Z29, Z0, Z0\nVMOVDQU64 Z0, %d(DI)", 4*j, 64*j)
	}
	a.end()

	a.table("gridBytes", [16]uint32{0x03020100, 0x0b0a0908, 0x80808080, 0x80808080})
	var signs, shifts [16]uint32
	for i := range 8 {
		signs[2*i], signs[2*i+1] = uint32(1+i/4*2), uint32(1+i/4*2)
		shifts[2*i] = uint32(7 * (i % 4))
	}
	a.table("signDwords", signs)
	a.table("signShifts", shifts)
	row("unpackIQ2")
	a.p("VMOVDQU64 gridBytes<>(SB), X31\nVMOVDQU64 signDwords<>(SB), Z30\nVMOVDQU64 signShifts<>(SB), Z29")
	a.p("MOVL $127, AX\nVPBROADCASTQ AX, Z28\nLEAQ ·gridWords(SB), R8\nLEAQ ·signWords(SB), R9")
	a.constant(0x01010101, zmm, 27)
	a.constant(0x80808080, zmm, 26)
	for j := range 4 {
		a.p("VMOVDQU %d(SI), X0\nVPSHUFB X31, X0, X1\nVPMOVZXBQ X1, Z1\nVPERMD Z0, Z30, Z2\nVPSRLVQ Z29, Z2, Z2\nVPANDQ Z28, Z2, Z2", 2+16*j)
		a.p("KXNORB K1, K1, K1\nVPGATHERQQ (R8)(Z1*8), K1, Z3\nKXNORB K2, K2, K2\nVPGATHERQQ (R9)(Z2*8), K2, Z4")
		a.p("VPXORD Z4, Z3, Z3\nVPANDD Z27, Z4, Z4\nVPADDB Z4, Z3, Z3\nVPXORD Z26, Z3, Z3\nVMOVDQU64 Z3, %d(DI)", 64*j)
	}
	a.end()
}

// spread transposes the codes of 32 rows, four bytes of a row at a time.
func spread(a *asm) {
	a.fn("spread", "moves the codes of 32 rows of 256 to blocks that are block bytes apart.", "dst unsafe.Pointer", "codes unsafe.Pointer", "block int")
	a.arg("dst", "DI")
	a.arg("codes", "SI")
	a.arg("block", "R8")
	a.p("LEAQ (DI)(R8*1), R9\nSHLQ $1, R8\nMOVL $4, CX")
	a.loop("CX", func() {
		for half := range 2 {
			for r := range 16 {
				a.p("VMOVDQU64 %d(SI), Z%d", 256*(16*half+r), r)
			}
			transpose16(a)
			for g := range 16 {
				a.p("VMOVDQU64 Z%d, %d(%s)", g, g%8*group+64*half, []string{"DI", "R9"}[g/8])
			}
		}
		a.p("ADDQ $64, SI\nADDQ R8, DI\nADDQ R8, R9")
	})
	a.end()
}

// transpose16 makes columns of the rows Z0 to Z15 of dwords.
func transpose16(a *asm) {
	for i := 0; i < 16; i += 2 {
		a.p("VPUNPCKLDQ Z%d, Z%d, Z%d\nVPUNPCKHDQ Z%d, Z%d, Z%d", i+1, i, 16+i, i+1, i, 17+i)
	}
	for i := 0; i < 16; i += 4 {
		a.p("VPUNPCKLQDQ Z%d, Z%d, Z%d\nVPUNPCKHQDQ Z%d, Z%d, Z%d", 18+i, 16+i, i, 18+i, 16+i, i+1)
		a.p("VPUNPCKLQDQ Z%d, Z%d, Z%d\nVPUNPCKHQDQ Z%d, Z%d, Z%d", 19+i, 17+i, i+2, 19+i, 17+i, i+3)
	}
	// Z<4i+k> has column 4L+k of rows 4i to 4i+3 in lane L.
	shuffle := func(order, y, x, dst int) { a.p("VSHUFI32X4 $0x%02x, Z%d, Z%d, Z%d", order, y, x, dst) }
	for k := range 4 {
		shuffle(0x88, 4+k, k, 16+k)
		shuffle(0xdd, 4+k, k, 20+k)
		shuffle(0x88, 12+k, 8+k, 24+k)
		shuffle(0xdd, 12+k, 8+k, 28+k)
	}
	for k := range 4 {
		shuffle(0x88, 24+k, 16+k, k)
		shuffle(0xdd, 24+k, 16+k, 8+k)
		shuffle(0x88, 28+k, 20+k, 4+k)
		shuffle(0xdd, 28+k, 20+k, 12+k)
	}
}
