package kvrow

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Rows as int8. The indexer multiplies FP4 values as int8 codes with a power of
// two per block: of a block that is not zero, the largest code has int8Bits bits.
// A zero has no sign. Such rows are packed and unpacked as they are.

// Int8Block is how many int8 codes share a scale.
const Int8Block = e2m1Block

const (
	int8Bits = 6
	// Codes of blocks as Pack writes them, whose largest value is 4 or 6 times
	// their scale, are 8 times the value.
	int8Shift = 3
	// leastInt8 is the exponent of the smallest scale: blocks under 2^-100 are
	// treated as if that were their largest value.
	leastInt8 = -100 - (int8Bits - 1)
)

// int8Pairs is the codes of every byte of FP4 codes, in its low and high half.
var int8Pairs = func() (t [256]uint16) {
	for c, v := range e2m1Pairs {
		lo, hi := int8(v[0]*(1<<int8Shift)), int8(v[1]*(1<<int8Shift))
		t[c] = uint16(uint8(lo)) | uint16(uint8(hi))<<8
	}
	return t
}()

// noE2M1 marks int8 codes that no FP4 code has.
const noE2M1 = 0xFF

// int8E2M1 is the inverse, by the code as a byte.
var int8E2M1 = func() (t [256]uint8) {
	for c := range t {
		t[c] = noE2M1
	}
	for c, v := range e2m1[:16] {
		if v != 0 || c == 0 {
			t[uint8(int8(v*(1<<int8Shift)))] = uint8(c)
		}
	}
	return t
}()

// int8Row checks the sizes of a row.
func (c *Codec) int8Row(codes, scales, bytes int) error {
	if len(c.parts) != 1 || c.parts[0].Form != E2M1 {
		return fmt.Errorf("%w: no int8 of %s", ErrSize, c)
	}
	if codes != c.values || scales != c.values/Int8Block || bytes != c.bytes {
		return fmt.Errorf("%w: %d codes, %d scales and %d bytes, a row has %d, %d and %d",
			ErrSize, codes, scales, bytes, c.values, c.values/Int8Block, c.bytes)
	}
	return nil
}

// PackInt8 is Pack for one row of FP4 as int8 codes and a scale per Int8Block.
func (c *Codec) PackInt8(dst, codes []byte, scales []float32) error {
	if err := c.int8Row(len(codes), len(scales), len(dst)); err != nil {
		return err
	}
	packed, exps := dst[:c.values/2], dst[c.values/2:]
	for i, scale := range scales {
		block := (*[e2m1Block]byte)(codes[i*e2m1Block:])
		e, ok := packInt8((*[e2m1Block / 2]byte)(packed[i*e2m1Block/2:]), block, scale)
		if !ok {
			return c.packAsFloats(dst, codes, scales)
		}
		exps[i] = e
	}
	return nil
}

// packInt8 packs a block as most are, or returns false.
func packInt8(dst *[e2m1Block / 2]byte, src *[e2m1Block]byte, scale float32) (e byte, ok bool) {
	x := math.Float32bits(scale)
	s := int(x>>23) - bias + int8Shift
	if x&0x7FFFFF != 0 || s < leastInt8+2*int8Shift || s+bias > maxE2M1 {
		return 0, false
	}
	var none, top byte
	for i := range dst {
		a, b := int8E2M1[src[2*i]], int8E2M1[src[2*i+1]]
		none |= a | b
		top |= a&(a<<1) | b&(b<<1) // bit 2: 4 or 6 times the scale
		dst[i] = a | b<<4
	}
	return byte(s + bias), none&0xF0 == 0 && top&4 != 0
}

// packAsFloats packs a row with blocks that are zero, very small, or not FP4.
func (c *Codec) packAsFloats(dst, codes []byte, scales []float32) error {
	row := make([]float32, c.values)
	for i := range row {
		row[i] = float32(int8(codes[i])) * scales[i/Int8Block]
	}
	return c.Pack(dst, row)
}

// UnpackInt8 is Unpack for one row of FP4, to int8 codes and a scale per
// Int8Block.
func (c *Codec) UnpackInt8(codes []byte, scales []float32, src []byte) error {
	if err := c.int8Row(len(codes), len(scales), len(src)); err != nil {
		return err
	}
	packed, exps := src[:c.values/2], src[c.values/2:]
	for i, e := range exps {
		from := (*[e2m1Block / 2]byte)(packed[i*e2m1Block/2:])
		to := (*[e2m1Block]byte)(codes[i*e2m1Block:])
		if e < minExponent+bias || e > maxE2M1 {
			return fmt.Errorf("%w: row 0, values %d to %d of %s", ErrCorrupt, i*e2m1Block, (i+1)*e2m1Block-1, c)
		}
		if !unpackInt8(to, from) || int(e)-bias < leastInt8+2*int8Shift {
			scales[i] = int8Slowly(to, from, e)
			continue
		}
		scales[i] = power(int(e) - bias - int8Shift)
	}
	return nil
}

// unpackInt8 reports false for a block whose largest value is not 4 or 6 times
// its scale.
func unpackInt8(dst *[e2m1Block]byte, src *[e2m1Block / 2]byte) bool {
	var top uint64
	for i := 0; i < len(src); i += 8 {
		x := binary.LittleEndian.Uint64(src[i:])
		top |= x & (x << 1)
		d := (*[16]byte)(dst[2*i:])
		binary.LittleEndian.PutUint64(d[:], uint64(int8Pairs[byte(x)])|uint64(int8Pairs[byte(x>>8)])<<16|
			uint64(int8Pairs[byte(x>>16)])<<32|uint64(int8Pairs[byte(x>>24)])<<48)
		binary.LittleEndian.PutUint64(d[8:], uint64(int8Pairs[byte(x>>32)])|uint64(int8Pairs[byte(x>>40)])<<16|
			uint64(int8Pairs[byte(x>>48)])<<32|uint64(int8Pairs[byte(x>>56)])<<48)
	}
	return top&0x4444444444444444 != 0
}

// int8Slowly makes the codes of any block, and returns their scale.
func int8Slowly(dst *[e2m1Block]byte, src *[e2m1Block / 2]byte, e byte) float32 {
	var v [e2m1Block]float32
	unpackE2M1(&v, src, e)
	exponent := max(int(magnitude(v[:])>>23)-bias-(int8Bits-1), leastInt8)
	for i, x := range v {
		// In float64, because the inverse of a scale need not be a float32.
		dst[i] = byte(int8(math.RoundToEven(math.Ldexp(float64(x), -exponent))))
	}
	return float32(math.Ldexp(1, exponent))
}
