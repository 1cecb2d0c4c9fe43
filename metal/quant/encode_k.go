package quant

import "encoding/binary"

// Sub-blocks of Q2_K and Q4_K hold v = scale*code - offset with unsigned codes,
// scale and offset. The encoders fit each sub-block alone, quantise the scales
// and offsets of the block, then choose the codes again for what was stored.

// scaleSteps is how many scales around the plain (max-min)/levels are tried for
// a sub-block, each moved by scaleStep of a level.
const (
	scaleSteps = 9
	scaleStep  = 0.1
)

// fitAffine finds scale and offset, neither negative, so that scale*code-offset
// with codes 0..levels comes close to v.
func fitAffine(v []float32, levels int) (scale, offset float32) {
	lo, hi := float32(0), v[0]
	for _, x := range v {
		lo, hi = min(lo, x), max(hi, x)
	}
	if hi <= lo {
		return 0, -lo
	}
	best := float32(-1)
	for step := range scaleSteps {
		// Fewer effective levels than codes make a larger scale: the outliers move less.
		span := float32(levels) + scaleStep*float32(step-scaleSteps/2)
		s, o := refit(v, (hi-lo)/span, -lo, levels)
		if e := affineError(v, s, o, levels); best < 0 || e < best {
			best, scale, offset = e, s, o
		}
	}
	return scale, offset
}

// refit keeps the codes that (scale, offset) give and solves the least squares
// for the two numbers.
func refit(v []float32, scale, offset float32, levels int) (float32, float32) {
	inv := inverse(scale)
	var n, sc, scc, sv, svc float64
	for _, x := range v {
		c := float64(nearest((x+offset)*inv, levels))
		n++
		sc += c
		scc += c * c
		sv += float64(x)
		svc += float64(x) * c
	}
	det := n*scc - sc*sc
	if det <= 0 {
		return scale, offset
	}
	s, o := (n*svc-sc*sv)/det, (sc*svc-scc*sv)/det
	if o < 0 { // the format has no positive minimum: fit the scale alone
		o = 0
		s = svc / scc
	}
	if s <= 0 {
		return scale, offset
	}
	return float32(s), float32(o)
}

func affineError(v []float32, scale, offset float32, levels int) float32 {
	inv := inverse(scale)
	var e float32
	for _, x := range v {
		d := scale*float32(nearest((x+offset)*inv, levels)) - offset - x
		e += d * d
	}
	return e
}

// affineBlock is a block of 256 values after fitting.
type affineBlock struct {
	d, dmin        uint16 // F16 codes
	scale, minimum [16]byte
	codes          [BlockK]byte
}

// encodeAffine fits sub-blocks of `sub` values with codes 0..levels and scales
// and minima of 0..steps.
func encodeAffine(src []float32, sub, levels, steps int) (b affineBlock, err error) {
	var scales, offsets [16]float32
	var maxScale, maxOffset float32
	count := BlockK / sub
	for j := range count {
		scales[j], offsets[j] = fitAffine(src[j*sub:(j+1)*sub], levels)
		maxScale, maxOffset = max(maxScale, scales[j]), max(maxOffset, offsets[j])
	}
	var d, dmin float32
	if b.d, d, err = halfScale(maxScale / float32(steps)); err != nil {
		return b, err
	}
	if b.dmin, dmin, err = halfScale(maxOffset / float32(steps)); err != nil {
		return b, err
	}
	invD, invMin := inverse(d), inverse(dmin)
	for j := range count {
		a := nearest(scales[j]*invD, steps)
		m := nearest(offsets[j]*invMin, steps)
		b.scale[j], b.minimum[j] = byte(a), byte(m)
		inv, offset := inverse(d*float32(a)), dmin*float32(m)
		for i, x := range src[j*sub : (j+1)*sub] {
			b.codes[j*sub+i] = byte(nearest((x+offset)*inv, levels))
		}
	}
	return b, nil
}

func encodeQ2_K(dst []byte, src []float32) error {
	b, err := encodeAffine(src, 16, 3, 15)
	if err != nil {
		return err
	}
	for j := range 16 {
		dst[j] = b.scale[j] | b.minimum[j]<<4
	}
	clear(dst[16:80])
	for i, c := range b.codes {
		half, shift := i/128, 2*(i%128/32)
		dst[16+32*half+i%32] |= c << shift
	}
	binary.LittleEndian.PutUint16(dst[80:], b.d)
	binary.LittleEndian.PutUint16(dst[82:], b.dmin)
	return nil
}

func encodeQ4_K(dst []byte, src []float32) error {
	b, err := encodeAffine(src, 32, 15, 63)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint16(dst, b.d)
	binary.LittleEndian.PutUint16(dst[2:], b.dmin)
	s := dst[4:16]
	for j := range 4 {
		// The upper two bits of sub-blocks 4..7 live above those of 0..3.
		s[j] = b.scale[j] | b.scale[j+4]>>4<<6
		s[j+4] = b.minimum[j] | b.minimum[j+4]>>4<<6
		s[j+8] = b.scale[j+4]&15 | b.minimum[j+4]<<4
	}
	for t := range 4 {
		for i := range 32 {
			dst[16+32*t+i] = b.codes[64*t+i] | b.codes[64*t+32+i]<<4
		}
	}
	return nil
}
