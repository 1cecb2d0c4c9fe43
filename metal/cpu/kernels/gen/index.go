package main

// indexAdd adds the positive scores of 32 rows, times the weight of their head.
func indexAdd(a *asm, v vec) {
	a.fn("indexAdd", "adds weighted positive scores of 32 rows, head by head.", "dst *float32", "s *float32", "w *float32", "heads int")
	a.arg("dst", "DX")
	a.arg("s", "DI")
	a.arg("w", "SI")
	a.arg("heads", "CX")
	n := panelRows / v.lanes
	weight, zero := 2*n, 2*n+1
	a.p(v.zero(zero))
	for i := range n {
		a.p("VMOVUPS %d(DX), %s", i*v.bytes(), v.r(i))
	}
	a.loop("CX", func() {
		a.p("VBROADCASTSS (SI), %s", v.r(weight))
		for i := range n {
			a.p("VMOVUPS %d(DI), %s\nVMAXPS %s, %s, %s\nVFMADD231PS %s, %s, %s", i*v.bytes(), v.r(n+i),
				v.r(n+i), v.r(zero), v.r(n+i), v.r(weight), v.r(n+i), v.r(i))
		}
		a.p("ADDQ $%d, DI\nADDQ $4, SI", 4*panelRows)
	})
	for i := range n {
		a.p("VMOVUPS %s, %d(DX)", v.r(i), i*v.bytes())
	}
	a.end()
}
