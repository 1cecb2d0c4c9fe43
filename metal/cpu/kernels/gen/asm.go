package main

import (
	"fmt"
	"strings"
)

// asm collects the functions of one instruction set: the text of an assembler
// file, and the Go declarations that go with it.
type asm struct {
	suffix string // of function names
	text   strings.Builder
	decls  strings.Builder
	params map[string]string // of the current function: name to operand
	labels int
}

// p writes lines of assembler.
func (a *asm) p(format string, args ...any) {
	fmt.Fprintf(&a.text, format+"\n", args...)
}

// fn starts a function. A parameter is "name type"; float32 comes last. A result
// is a last parameter named ret.
func (a *asm) fn(name, doc string, params ...string) {
	name += a.suffix
	size := 0
	a.params = map[string]string{}
	var result string
	for i, p := range params {
		n, typ, _ := strings.Cut(p, " ")
		if n == "ret" {
			params, result = params[:i], " "+typ
			size = (size + 7) &^ 7
		}
		a.params[n] = fmt.Sprintf("%s+%d(FP)", n, size)
		size += 8
		if typ == "float32" {
			size -= 4
		}
	}
	list := strings.Join(params, ", ")
	fmt.Fprintf(&a.decls, "\n// %s %s\n//\n//go:noescape\nfunc %s(%s)%s\n", name, doc, name, list, result)
	a.p("\n// func %s(%s)%s\nTEXT ·%s(SB), NOSPLIT, $0-%d", name, list, result, name, size)
}

// arg loads a parameter into a general register.
func (a *asm) arg(name, reg string) { a.p("MOVQ %s, %s", a.params[name], reg) }

// end closes a function.
func (a *asm) end() { a.p("VZEROUPPER\nRET") }

// newLabel makes a label that is unique in the file.
func (a *asm) newLabel(stem string) string {
	a.labels++
	return fmt.Sprintf("%s%d", stem, a.labels)
}

// loop repeats body reg times; reg counts down to zero. It must not be zero at
// the start.
func (a *asm) loop(reg string, body func()) {
	l := a.newLabel("loop")
	a.p("PCALIGN $32\n%s:", l)
	body()
	a.p("DECQ %s\nJNZ %s", reg, l)
}

// loopWhile repeats body, which uses n of the things that reg counts, while at
// least n are left.
func (a *asm) loopWhile(reg string, n int, body func()) {
	l, e := a.newLabel("while"), a.newLabel("done")
	a.p("CMPQ %s, $%d\nJLT %s\nPCALIGN $32\n%s:", reg, n, e, l)
	body()
	a.p("SUBQ $%d, %s\nCMPQ %s, $%d\nJGE %s\n%s:", n, reg, reg, n, l, e)
}

// aheadBytes is how far what reads a panel once asks for it in advance. A core
// needs some 50 lines on their way to read as fast as it can, more than its own
// prefetching and the loads that fit its window have, and neither goes past a page.
// What takes more than a few instructions per line asks again when the line is nearBytes
// away, for its way to the first-level cache.
const aheadBytes, nearBytes = 6144, 1536

// ahead asks for what is aheadBytes after the next n bytes at SI, so that it is in
// the second-level cache in time. The end of a panel asks for the next one.
func (a *asm) ahead(n int) {
	for i := 0; i < n; i += 64 {
		a.p("PREFETCHT1 %d(SI)", aheadBytes+i)
	}
}

// aheadNear is ahead, and asks for what is nearer again.
func (a *asm) aheadNear(n int) {
	a.ahead(n)
	for i := 0; i < n; i += 64 {
		a.p("PREFETCHT0 %d(SI)", nearBytes+i)
	}
}

// constant broadcasts a 32-bit pattern. It destroys AX.
func (a *asm) constant(bits uint32, v vec, reg int) {
	a.p("MOVL $0x%08x, AX", bits)
	if v.avx512() {
		a.p("VPBROADCASTD AX, %s", v.r(reg))
	} else {
		a.p("VMOVD AX, X%d\nVPBROADCASTD X%d, %s", reg, reg, v.r(reg))
	}
}

// vec is a vector width.
type vec struct {
	letter string
	lanes  int
}

var (
	zmm = vec{"Z", 16}
	ymm = vec{"Y", 8}
)

func (v vec) avx512() bool   { return v.lanes == 16 }
func (v vec) r(i int) string { return fmt.Sprintf("%s%d", v.letter, i) }
func (v vec) bytes() int     { return 4 * v.lanes }
func (v vec) zero(i int) string {
	if v.avx512() {
		return fmt.Sprintf("VPXORD Z%d, Z%d, Z%d", i, i, i)
	}
	return fmt.Sprintf("VPXOR Y%d, Y%d, Y%d", i, i, i)
}
