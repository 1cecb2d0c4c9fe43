package quant

import (
	"encoding/binary"
	"fmt"
	"math"
)

// maxHalf is the largest finite F16.
const maxHalf = 65504

// EncodeRow encodes src as type t. dst must be exactly the RowBytes(t, len(src))
// bytes of the row. Block types refuse values that are not finite or whose block
// scale would overflow (ErrRange, with the index of the value or block); dst may
// then be partly written. I32 takes integral values only.
func EncodeRow(t Type, dst []byte, src []float32) error {
	if err := checkRow(t, len(src), len(dst)); err != nil {
		return err
	}
	switch t {
	case F32:
		for i, v := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
		}
		return nil
	case F16:
		for i, v := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], F32ToF16(v))
		}
		return nil
	case BF16:
		for i, v := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], F32ToBF16(v))
		}
		return nil
	case I32:
		return encodeI32(dst, src)
	}
	var encode func(dst []byte, src []float32) error
	switch t {
	case Q8_0:
		encode = encodeQ8_0
	case Q2_K:
		encode = encodeQ2_K
	case Q4_K:
		encode = encodeQ4_K
	case IQ2_XXS:
		encode = encodeIQ2_XXS
	}
	bs, bb := t.BlockSize(), t.BlockBytes()
	for i := range len(src) / bs {
		block := src[i*bs : (i+1)*bs]
		for j, v := range block {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("quant: value %d is %v, %v: %w", i*bs+j, v, t, ErrRange)
			}
		}
		if err := encode(dst[i*bb:(i+1)*bb], block); err != nil {
			return fmt.Errorf("quant: block %d of %v: %w", i, t, err)
		}
	}
	return nil
}

func encodeI32(dst []byte, src []float32) error {
	for i, v := range src {
		n := int32(v)
		if float32(n) != v || v >= 1<<31 {
			return fmt.Errorf("quant: value %d is %v, I32: %w", i, v, ErrRange)
		}
		binary.LittleEndian.PutUint32(dst[4*i:], uint32(n))
	}
	return nil
}

// halfScale rounds a block scale to F16 and returns the code and its value.
func halfScale(f float32) (code uint16, value float32, err error) {
	if f > maxHalf {
		return 0, 0, fmt.Errorf("scale %g exceeds %d: %w", f, maxHalf, ErrRange)
	}
	code = F32ToF16(f)
	return code, F16ToF32(code), nil
}

// nearest rounds x to the nearest integer (ties to even) within [0, limit].
func nearest(x float32, limit int) int {
	if !(x > 0) {
		return 0
	}
	if x >= float32(limit) {
		return limit
	}
	return int(math.RoundToEven(float64(x)))
}

// inverse is 1/x, or 0 for scales too small to divide by: their codes are 0.
func inverse(x float32) float32 {
	if x < math.SmallestNonzeroFloat32*(1<<23) {
		return 0
	}
	return 1 / x
}

func encodeQ8_0(dst []byte, src []float32) error {
	var amax float32
	for _, v := range src {
		amax = max(amax, abs(v))
	}
	code, d, err := halfScale(amax / 127)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(dst, code)
	for i, v := range src {
		q := 0
		if d > 0 {
			q = nearest(abs(v)/d, 127)
		}
		if v < 0 {
			q = -q
		}
		dst[2+i] = byte(int8(q))
	}
	return nil
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }
