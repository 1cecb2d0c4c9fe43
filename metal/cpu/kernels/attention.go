package kernels

import (
	"math"
	"unsafe"

	"ds4/metal/quant"
)

// Heads is how many heads attention treats together. One row is key and value of
// all heads, so it is loaded once for all of them.
const Heads = 8

// rowLanes is the number of lanes of a sum across a row.
const rowLanes = 16

// Rows is the form in which attention finds its rows.
type Rows int

// The forms. Widening a half is exact, so both give the same bits for values that
// F16 has.
const (
	RowsF32 Rows = iota
	RowsF16
	rowForms = iota
)

// Bytes is the size of a row of width values.
func (r Rows) Bytes(width int) int { return width * [rowForms]int{4, 2}[r] }

type (
	scoresFunc = func(q *float32, rows *unsafe.Pointer, s *float32, pairs, width int, scale float32)
	sumFunc    = func(p *float32, rows *unsafe.Pointer, out, inv *float32, n, width int)
)

// AttendScores writes scale * (q[h] . rows[j]) to dst[j*Heads+h], for Heads heads
// of q, width values each, and an even number of rows.
func (s *Set) AttendScores(dst, q []float32, form Rows, rows []unsafe.Pointer, width int, scale float32) {
	n := len(rows) &^ 1
	if n == 0 {
		return
	}
	_, _ = q[Heads*width-1], dst[n*Heads-1]
	s.whole(width).attendScores[form](&q[0], &rows[0], &dst[0], n/2, width, scale)
}

// AttendSoftmax turns the scores of n rows into weights that still have to be
// multiplied with inv. The sinks take their share of the sum and have no value.
func (s *Set) AttendSoftmax(sc []float32, sinks, inv *[Heads]float32, n int) {
	if n == 0 {
		return
	}
	_ = sc[n*Heads-1]
	s.attendSoftmax(&sc[0], &sinks[0], &inv[0], n)
}

// AttendSum adds rows weighted with p[j*Heads+h] to out[h*width:], all of them in
// their order, and multiplies the result with inv[h].
func (s *Set) AttendSum(out, p []float32, form Rows, rows []unsafe.Pointer, inv *[Heads]float32, width int) {
	if len(rows) == 0 {
		return
	}
	_, _ = out[Heads*width-1], p[len(rows)*Heads-1]
	s.whole(width).attendSum[form](&p[0], &rows[0], &out[0], &inv[0], len(rows), width)
}

// IndexSum adds to dst[j] the sum over heads of w[h] * max(sc[j*Heads+h], 0). The
// number of rows is a multiple of 4.
func (s *Set) IndexSum(dst, sc []float32, w *[Heads]float32) {
	if len(dst) == 0 {
		return
	}
	_ = sc[len(dst)*Heads-1]
	s.indexSum(&sc[0], &w[0], &dst[0], len(dst))
}

// whole leaves rows that end within a vector to plain Go.
func (s *Set) whole(width int) *Set {
	if width%rowLanes != 0 {
		return &Scalar
	}
	return s
}

// fold adds the lanes of a sum across a row, half by half.
func fold(lanes []float32) float32 {
	for n := len(lanes) / 2; n > 0; n /= 2 {
		for i := range n {
			lanes[i] += lanes[i+n]
		}
	}
	return lanes[0]
}

// dot is a product of rows, in lanes.
func dot(a, b []float32) float32 {
	var acc [rowLanes]float32
	b = b[:len(a)]
	for len(a) >= rowLanes {
		fmaLanes(&acc, (*[rowLanes]float32)(a), (*[rowLanes]float32)(b))
		a, b = a[rowLanes:], b[rowLanes:]
	}
	for i, v := range a {
		acc[i] = fma(v, b[i], acc[i])
	}
	return fold(acc[:])
}

func attendScores(q *float32, rows *unsafe.Pointer, s *float32, pairs, width int, scale float32) {
	out := unsafe.Slice(s, 2*pairs*Heads)
	heads := unsafe.Slice(q, Heads*width)
	for j, p := range unsafe.Slice(rows, 2*pairs) {
		scoreRow(out[j*Heads:][:Heads], heads, floats(p, width), scale)
	}
}

// scoreRow writes the scores of one row.
func scoreRow(out, heads, row []float32, scale float32) {
	for h := range out {
		out[h] = mul(dot(heads[h*len(row):][:len(row)], row), scale)
	}
}

func attendScoresF16(q *float32, rows *unsafe.Pointer, s *float32, pairs, width int, scale float32) {
	out := unsafe.Slice(s, 2*pairs*Heads)
	heads := unsafe.Slice(q, Heads*width)
	var wide wideRow
	for j, p := range unsafe.Slice(rows, 2*pairs) {
		scoreRow(out[j*Heads:][:Heads], heads, wide.of(p, width), scale)
	}
}

// wideRow is memory for a row that is widened to float32; longer ones are allocated.
type wideRow [1024]float32

func (w *wideRow) of(p unsafe.Pointer, width int) []float32 {
	row := w[:]
	if width > len(row) {
		row = make([]float32, width)
	}
	for i, h := range unsafe.Slice((*uint16)(p), width) {
		row[i] = quant.F16ToF32(h)
	}
	return row[:width]
}

func attendSoftmax(s, sinks, inv *float32, n int) {
	sc, sink, out := unsafe.Slice(s, n*Heads), unsafe.Slice(sinks, Heads), unsafe.Slice(inv, Heads)
	for h := range Heads {
		top := sink[h]
		for j := range n {
			top = max(top, sc[j*Heads+h])
		}
		var den [2]float32 // even and odd rows
		for j := range n {
			p := &sc[j*Heads+h]
			*p = exp(*p - top)
			den[j%2] += *p
		}
		out[h] = 1 / (den[0] + den[1] + exp(sink[h]-top))
	}
}

func attendSum(p *float32, rows *unsafe.Pointer, out, inv *float32, n, width int) {
	weights, o := unsafe.Slice(p, n*Heads), unsafe.Slice(out, Heads*width)
	for j, r := range unsafe.Slice(rows, n) {
		addRow(o, floats(r, width), weights[j*Heads:][:Heads])
	}
	scaleRows(o, unsafe.Slice(inv, Heads), width)
}

func attendSumF16(p *float32, rows *unsafe.Pointer, out, inv *float32, n, width int) {
	weights, o := unsafe.Slice(p, n*Heads), unsafe.Slice(out, Heads*width)
	var wide wideRow
	for j, r := range unsafe.Slice(rows, n) {
		addRow(o, wide.of(r, width), weights[j*Heads:][:Heads])
	}
	scaleRows(o, unsafe.Slice(inv, Heads), width)
}

// addRow adds a row to that of each head, weighted.
func addRow(o, row, weights []float32) {
	for h, w := range weights {
		fmaRow(o[h*len(row):][:len(row)], row, w)
	}
}

// scaleRows multiplies the row of each head.
func scaleRows(o, scale []float32, width int) {
	for i := range o {
		o[i] *= scale[i/width]
	}
}

func indexSum(s, w, dst *float32, n int) {
	sc, weights, out := unsafe.Slice(s, n*Heads), unsafe.Slice(w, Heads), unsafe.Slice(dst, n)
	var acc [Heads]float32
	for j := range out {
		for h := range Heads {
			v := sc[j*Heads+h]
			if v < 0 {
				v = 0
			}
			acc[h] = mul(v, weights[h])
		}
		out[j] += fold(acc[:])
	}
}

// exp is e to the x, to about one unit in the last place, between expLow and
// expHigh; what lies beyond counts as the limit.
func exp(x float32) float32 {
	const (
		low, high      = -86, 88
		log2e          = 1.44269504088896341
		ln2Hi, ln2Lo   = -0.693359375, 2.12194440e-4 // their sum is -ln 2
		c0, c1, c2     = 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3
		c3, c4, c5     = 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1
		magic, expBits = 3 << 22, 23
	)
	if x < low {
		x = low
	}
	if x > high {
		x = high
	}
	k := int32(math.Float32bits(mul(x, log2e)+magic)) - int32(math.Float32bits(magic))
	if x != x {
		return x
	}
	f := float32(k)
	r := fma(f, ln2Lo, fma(f, ln2Hi, x))
	p := fma(c0, r, c1)
	p = fma(p, r, c2)
	p = fma(p, r, c3)
	p = fma(p, r, c4)
	p = fma(p, r, c5)
	p = fma(p, mul(r, r), r) + 1
	return math.Float32frombits(math.Float32bits(p) + uint32(k)<<expBits)
}
