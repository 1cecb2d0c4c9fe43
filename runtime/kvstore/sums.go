package kvstore

import (
	"hash/crc32"
	"math/bits"

	"ds4/runtime/kvstore/segment"
)

// sums computes checksums of stretches of one text. A stretch that begins where
// the last one did, and ends behind it, costs only what was added; any other long
// one is computed from the checksums of two prefixes, in a time that does not
// depend on its length.
type sums struct {
	text  []byte
	marks []uint32 // marks[i] is the checksum of the first i*markBytes bytes
}

const (
	markBytes = 4 << 10
	// jumpBytes is what is rather read than derived from two prefixes.
	jumpBytes = 32 << 10
)

// extend continues the checksum of text[from:mid] to that of text[from:to].
func (s *sums) extend(sum uint32, from, mid, to int) uint32 {
	if to-mid <= jumpBytes {
		return segment.AddChecksum(sum, s.text[mid:to])
	}
	return s.prefix(to) ^ shift(s.prefix(from), to-from)
}

// prefix is the checksum of the first n bytes.
func (s *sums) prefix(n int) uint32 {
	if s.marks == nil {
		s.marks = make([]uint32, 1, len(s.text)/markBytes+1)
	}
	for len(s.marks)*markBytes <= n {
		i := len(s.marks)
		s.marks = append(s.marks, segment.AddChecksum(s.marks[i-1], s.text[(i-1)*markBytes:i*markBytes]))
	}
	i := n / markBytes
	return segment.AddChecksum(s.marks[i], s.text[i*markBytes:n])
}

// The checksum of a concatenation ab is that of b xor that of a times x^(8|b|), as
// polynomials over GF(2) modulo Castagnoli's, whose coefficients are kept with
// the highest power in the lowest bit.

// powers[k] is x^(8 * 2^k).
var powers = func() (p [bits.UintSize]uint32) {
	p[0] = 1 << (31 - 8)
	for k := 1; k < len(p); k++ {
		p[k] = multiply(p[k-1], p[k-1])
	}
	return p
}()

// shift multiplies a checksum by x^(8n).
func shift(sum uint32, n int) uint32 {
	for k := 0; n != 0 && sum != 0; k, n = k+1, n>>1 {
		if n&1 != 0 {
			sum = multiply(sum, powers[k])
		}
	}
	return sum
}

// multiply is the product of two polynomials.
func multiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}
