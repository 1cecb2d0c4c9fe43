package kvrow

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sync"

	"ds4/metal/quant"
)

// Rows of F16. What the forward pass rounds to F16 at last, FP8 codes included,
// needs no float32 outside of a row's arithmetic: a session keeps halves, little
// endian, and they are packed and unpacked as they are.

// Halves reports whether F16 holds every value of the codec's forms, as the
// forward pass makes them.
func (c *Codec) Halves() bool {
	for _, p := range c.parts {
		if p.Form != E4M3 && p.Form != F16 {
			return false
		}
	}
	return c.values > 0
}

// halfRows checks the sizes of both sides.
func (c *Codec) halfRows(halves, bytes int) (int, error) {
	if !c.Halves() {
		return 0, fmt.Errorf("%w: no halves of %s", ErrSize, c)
	}
	if halves%halfBytes != 0 {
		return 0, fmt.Errorf("%w: %d bytes of halves", ErrSize, halves)
	}
	return c.rows(halves/halfBytes, bytes)
}

const halfBytes = 2

// PackF16 is Pack for rows of F16.
func (c *Codec) PackF16(dst, src []byte) error {
	n, err := c.halfRows(len(src), len(dst))
	if err != nil {
		return err
	}
	for row := range n {
		at := 0
		for i := range c.parts {
			p := &c.parts[i]
			if bad := packHalves(p.Part, dst[:p.bytes], src[:halfBytes*p.Values]); bad >= 0 {
				v := quant.F16ToF32(binary.LittleEndian.Uint16(src[halfBytes*bad:]))
				return fmt.Errorf("%w: row %d, value %d of %s is %v", ErrInexact, row, at+bad, c, v)
			}
			dst, src, at = dst[p.bytes:], src[halfBytes*p.Values:], at+p.Values
		}
	}
	return nil
}

// UnpackF16 is Unpack for rows of F16. It refuses codes whose value F16 does not
// have, and scales that no row of F16 needs: PackF16 cannot have written them.
func (c *Codec) UnpackF16(dst, src []byte) error {
	n, err := c.halfRows(len(dst), len(src))
	if err != nil {
		return err
	}
	for row := range n {
		at := 0
		for i := range c.parts {
			p := &c.parts[i]
			if !unpackHalves(p.Part, dst[:halfBytes*p.Values], src[:p.bytes]) {
				return fmt.Errorf("%w: row %d, values %d to %d of %s", ErrCorrupt, row, at, at+p.Values-1, c)
			}
			dst, src, at = dst[halfBytes*p.Values:], src[p.bytes:], at+p.Values
		}
	}
	return nil
}

// Exponents of the scales that blocks of F16 need, but for blocks of zeros: 2^8
// times the least scale is the least half, and 240 times the largest one is the
// largest half of four significant bits.
const (
	leastHalf = -24 - 8
	mostHalf  = 8
)

// halfCodes is the values of all codes, and back: by the upper eight bits of a
// magnitude the code of it without sign, for values with nothing in the lower
// seven, and noCode for those that no code has.
type halfCodes struct {
	half [256]uint16
	code [256]uint8
}

const (
	halfLow = 1<<7 - 1
	noCode  = 0xFF
)

const (
	notHalf      = 0x7E00 // a NaN: F16 does not have the value
	halfInfinity = 0x7C00
	halfSign     = 0x8000
)

// halfTables are the codes as F16, by the exponent of the scale from leastHalf on,
// and before these what is left of them under a smaller scale: the zeros.
var halfTables = sync.OnceValue(func() *[1 + mostHalf - leastHalf + 1]halfCodes {
	var t [1 + mostHalf - leastHalf + 1]halfCodes
	for i := range t {
		for j := range t[i].code {
			t[i].code[j] = noCode
		}
		for c, v := range e4m3 {
			v *= power(i - 1 + leastHalf)
			h := quant.F32ToF16(v)
			if math.Float32bits(quant.F16ToF32(h)) != math.Float32bits(v) {
				h = notHalf
			}
			t[i].half[c] = h
			if c < 0x80 && h != notHalf && h&halfLow == 0 {
				t[i].code[h>>7] = byte(c)
			}
		}
	}
	return &t
})

// halvesOf is the table for the exponent byte of a scale, or nil.
func halvesOf(e byte) *halfCodes {
	s := int(e) - bias
	if s < minExponent || s > mostHalf {
		return nil
	}
	return &halfTables()[max(0, s-leastHalf+1)]
}

func unpackHalves(p Part, dst, src []byte) bool {
	if p.Form == F16 {
		return copyHalves(dst, src) < 0
	}
	codes, exps := src[:p.Values], src[p.Values:]
	for i, e := range exps {
		t := halvesOf(e)
		if t == nil || !unpackHalfBlock((*[halfBytes * e4m3Block]byte)(dst[i*halfBytes*e4m3Block:]), (*[e4m3Block]byte)(codes[i*e4m3Block:]), t) {
			return false
		}
	}
	return true
}

// Four halves at a time: an exponent of all ones carries into the sign.
const (
	halfExponents = 0x7C007C007C007C00
	halfCarry     = 0x0400040004000400
	halfSigns     = 0x8000800080008000
)

func unpackHalfBlock(dst *[halfBytes * e4m3Block]byte, src *[e4m3Block]byte, t *halfCodes) bool {
	var nan uint64
	h := &t.half
	for i := 0; i < e4m3Block; i += 8 {
		x := binary.LittleEndian.Uint64(src[i:])
		lo := uint64(h[byte(x)]) | uint64(h[byte(x>>8)])<<16 | uint64(h[byte(x>>16)])<<32 | uint64(h[byte(x>>24)])<<48
		hi := uint64(h[byte(x>>32)]) | uint64(h[byte(x>>40)])<<16 | uint64(h[byte(x>>48)])<<32 | uint64(h[byte(x>>56)])<<48
		nan |= (lo&halfExponents + halfCarry) | (hi&halfExponents + halfCarry)
		binary.LittleEndian.PutUint64(dst[halfBytes*i:], lo)
		binary.LittleEndian.PutUint64(dst[halfBytes*i+8:], hi)
	}
	return nan&halfSigns == 0
}

// copyHalves returns the index of the first half that is not finite, or -1.
func copyHalves(dst, src []byte) int {
	copy(dst, src)
	i := 0
	for ; i+8 <= len(src); i += 8 {
		if (binary.LittleEndian.Uint64(src[i:])&halfExponents+halfCarry)&halfSigns != 0 {
			break
		}
	}
	for ; i < len(src); i += halfBytes {
		if binary.LittleEndian.Uint16(src[i:])&halfInfinity == halfInfinity {
			return i / halfBytes
		}
	}
	return -1
}

// packHalves is packPart for F16.
func packHalves(p Part, dst, src []byte) int {
	if p.Form == F16 {
		return copyHalves(dst, src)
	}
	codes, exps := dst[:p.Values], dst[p.Values:]
	for i := range exps {
		block := (*[halfBytes * e4m3Block]byte)(src[i*halfBytes*e4m3Block:])
		e, bad := packHalfBlock((*[e4m3Block]byte)(codes[i*e4m3Block:]), block)
		if bad >= 0 {
			return i*e4m3Block + bad
		}
		exps[i] = e
	}
	return -1
}

// packHalfBlock returns the exponent byte, and -1 or the index of a value that is
// not a code times that scale.
func packHalfBlock(dst *[e4m3Block]byte, src *[halfBytes * e4m3Block]byte) (e byte, bad int) {
	var top, low uint16
	for i := 0; i < len(src); i += 8 {
		x := binary.LittleEndian.Uint64(src[i:])
		top = max(top, uint16(x)&^halfSign, uint16(x>>16)&^halfSign, uint16(x>>32)&^halfSign, uint16(x>>48)&^halfSign)
		low |= uint16(x) | uint16(x>>16) | uint16(x>>32) | uint16(x>>48)
	}
	if top >= halfInfinity {
		return 0, firstHalf(src, func(v uint16) bool { return v&halfInfinity == halfInfinity })
	}
	s := scaleOf(math.Float32bits(quant.F16ToF32(top)), 8, 0x600000) // 448 is 1.75*2^8
	e = byte(s + bias)
	t := halvesOf(e)
	if low&halfLow != 0 {
		return e, packLowHalves(dst, src, t)
	}
	var none byte
	for i := 0; i < len(src); i += 8 {
		x := binary.LittleEndian.Uint64(src[i:])
		a, b, c, d := t.code[byte(x>>7)], t.code[byte(x>>23)], t.code[byte(x>>39)], t.code[byte(x>>55)]
		none |= a | b | c | d
		signs := byte(0x80)
		out := dst[i/2 : i/2+4]
		out[0], out[1], out[2], out[3] = a|byte(x>>8)&signs, b|byte(x>>24)&signs, c|byte(x>>40)&signs, d|byte(x>>56)&signs
	}
	if none&0x80 != 0 {
		return 0, packLowHalves(dst, src, t)
	}
	return e, -1
}

// packLowHalves packs a block with values that have something in the lower bits,
// as codes under 2^-14 do. It returns -1 or the index of the first value that has
// no code.
func packLowHalves(dst *[e4m3Block]byte, src *[halfBytes * e4m3Block]byte, t *halfCodes) int {
	for i := range dst {
		v := binary.LittleEndian.Uint16(src[halfBytes*i:])
		c := int(t.code[v&^halfSign>>7]) | int(v>>8&0x80)
		if v&halfLow != 0 {
			c = slices.Index(t.half[:], v)
		}
		if c < 0 || c&0x7F == 0x7F {
			return i
		}
		dst[i] = byte(c)
	}
	return -1
}

// firstHalf is the index of the first half for which f is true.
func firstHalf(src *[halfBytes * e4m3Block]byte, f func(uint16) bool) int {
	for i := 0; i < len(src); i += halfBytes {
		if f(binary.LittleEndian.Uint16(src[i:])) {
			return i / halfBytes
		}
	}
	return 0
}
