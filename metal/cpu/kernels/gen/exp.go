package main

import "fmt"

// The exponential function: x = k*ln2 + r, a polynomial in r, and k added to the
// exponent. Constants as in exp of the scalar twin.

const (
	expLow = iota
	expHigh
	expLog2e
	expLn2Hi
	expLn2Lo
	expC0
	expOne  = expC0 + 6
	expLast = expOne
)

var expBits = [expLast + 1]uint32{
	f32(-86), f32(88), f32(1.44269504088896341), f32(-0.693359375), f32(2.12194440e-4),
	f32(1.9875691500e-4), f32(1.3981999507e-3), f32(8.3334519073e-3), f32(4.1665795894e-2), f32(1.6666665459e-1), f32(5.0000001201e-1),
	f32(1),
}

// expConsts says where the constants are: in registers from first on, or in memory.
type expConsts struct {
	first  int
	memory bool
}

// expConstants loads the constants into registers from first on.
func expConstants(a *asm, v vec, first int) expConsts {
	for i, b := range expBits {
		a.constant(b, v, first+i)
	}
	return expConsts{first: first}
}

// expTable refers to the constants in memory, through R13, as whole vectors of
// eight: AVX2 has too few registers.
func expTable(a *asm) expConsts {
	a.p("LEAQ expTable<>(SB), R13")
	return expConsts{memory: true}
}

// expData defines the table of expTable.
func expData(a *asm) {
	for i, b := range expBits {
		for l := range 8 {
			a.p("DATA expTable<>+%d(SB)/4, $0x%08x", 32*i+4*l, b)
		}
	}
	a.p("GLOBL expTable<>(SB), RODATA|NOPTR, $%d", 32*len(expBits))
}

func (c expConsts) reg(v vec, i int) string {
	if c.memory {
		return fmt.Sprintf("%d(R13)", 32*i)
	}
	return v.r(c.first + i)
}

// exp replaces x by its exponential. k, r and p are free registers. The order of
// operands of minimum and maximum lets NaN pass.
func (c expConsts) exp(a *asm, v vec, x, k, r, p int) {
	R := v.r
	if c.memory {
		// x must be the second source: load the constant first.
		a.p("VMOVUPS %s, %s\nVMAXPS %s, %s, %s", c.reg(v, expLow), R(p), R(x), R(p), R(x))
		a.p("VMOVUPS %s, %s\nVMINPS %s, %s, %s", c.reg(v, expHigh), R(p), R(x), R(p), R(x))
	} else {
		a.p("VMAXPS %s, %s, %s\nVMINPS %s, %s, %s", R(x), c.reg(v, expLow), R(x), R(x), c.reg(v, expHigh), R(x))
	}
	a.p("VMULPS %s, %s, %s\nVCVTPS2DQ %s, %s\nVCVTDQ2PS %s, %s", c.reg(v, expLog2e), R(x), R(k), R(k), R(k), R(k), R(p))
	a.p("VFMADD231PS %s, %s, %s\nVFMADD231PS %s, %s, %s", c.reg(v, expLn2Hi), R(p), R(x), c.reg(v, expLn2Lo), R(p), R(x))
	a.p("VMULPS %s, %s, %s\nVMOVUPS %s, %s", R(x), R(x), R(r), c.reg(v, expC0), R(p))
	for i := expC0 + 1; i < expOne; i++ {
		a.p("VFMADD213PS %s, %s, %s", c.reg(v, i), R(x), R(p))
	}
	a.p("VFMADD213PS %s, %s, %s\nVADDPS %s, %s, %s", R(x), R(r), R(p), c.reg(v, expOne), R(p), R(p))
	a.p("VPSLLD $23, %s, %s\nVPADDD %s, %s, %s", R(k), R(k), R(k), R(p), R(x))
}
