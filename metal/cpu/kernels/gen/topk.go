package main

// above lists the values that are greater than a bound, 16 at a time. The list
// may be written to 16 entries beyond its end.
func above(a *asm, v vec) {
	a.fn("above", "writes first+i for every x[i] > least; n is a multiple of 16. It returns how many.",
		"dst *int32", "x *float32", "first int", "n int", "least float32", "ret int")
	a.arg("dst", "DI")
	a.arg("x", "SI")
	a.arg("first", "BX")
	a.arg("n", "CX")
	a.p("VBROADCASTSS %s, %s\nMOVQ DI, DX", a.params["least"], v.r(0))
	if v.avx512() {
		for i := range 16 {
			a.p("DATA aboveSteps<>+%d(SB)/4, $%d", 4*i, i)
		}
		a.p("GLOBL aboveSteps<>(SB), RODATA|NOPTR, $64")
		a.p("VPBROADCASTD BX, Z1\nVPADDD aboveSteps<>(SB), Z1, Z1\nMOVL $16, AX\nVPBROADCASTD AX, Z2")
	}
	a.loopWhile("CX", v.lanes, func() {
		next := a.newLabel("next")
		a.p("VMOVUPS (SI), %s", v.r(3))
		if v.avx512() {
			a.p("VCMPPS $30, Z0, Z3, K1\nKORTESTW K1, K1\nJZ %s", next)
			a.p("KMOVW K1, AX\nPOPCNTL AX, AX\nVPCOMPRESSD Z1, K1, Z4\nVMOVDQU32 Z4, (DX)\nLEAQ (DX)(AX*4), DX")
			a.p("%s:\nVPADDD Z2, Z1, Z1", next)
		} else {
			bit := a.newLabel("bit")
			a.p("VCMPPS $30, Y0, Y3, Y3\nVMOVMSKPS Y3, AX\nTESTL AX, AX\nJZ %s", next)
			a.p("%s:\nBSFL AX, R8\nADDL BX, R8\nMOVL R8, (DX)\nADDQ $4, DX\nLEAL -1(AX), R8\nANDL R8, AX\nJNZ %s", bit, bit)
			a.p("%s:\nADDQ $8, BX", next)
		}
		a.p("ADDQ $%d, SI", v.bytes())
	})
	a.p("SUBQ DI, DX\nSHRQ $2, DX\nMOVQ DX, %s", a.params["ret"])
	a.end()
}
