package cpu

import (
	"encoding/binary"
	"math"
	"unsafe"

	"ds4/metal"
	"ds4/metal/quant"
)

// Matrix products of Q8_0 weights with int8 activations.
//
// The sum of a 32-value block is an exact integer, so how it is computed is
// free. Plain Go has no vector instructions, but one 64-bit multiplication can
// serve three tokens: a block's sum is at most 32*128*127 < 2^20 in magnitude, so
// three signed sums fit into one word, 21 bits apart. Blocks are then added in
// float32, in ascending order, with scales dw*da: that order is the same in
// every path.

const (
	block      = metal.Int8Block
	q8Bytes    = 2 + block
	lanes      = 3 // tokens per word
	laneBits   = 21
	tileGroups = 4 // words per column of a tile
	tileTokens = lanes * tileGroups
)

// quantizeInt8: x -> codes, scales.
func quantizeInt8(g *Group) {
	n := int(argsOf[metal.QuantizeArgs](g).N)
	quantizeRow(row(g.i8(1), g.X, n), row(g.f32(2), g.X, n/block), row(g.f32(0), g.X, n))
}

// quantizeRow rounds x to int8 per block: scale = max/127, ties to even.
func quantizeRow(codes []int8, scales, x []float32) {
	for b := range scales {
		v := (*[block]float32)(x[b*block:])
		c := (*[block]int8)(codes[b*block:])
		var amax float32
		for _, f := range v {
			amax = max(amax, abs(f))
		}
		scale := amax / 127
		var inv float32
		if scale != 0 {
			inv = 1 / scale
		}
		for i, f := range v {
			// Adding and taking away 1.5*2^23 rounds to the nearest integer, ties to even.
			const magic = 3 << 22
			q := int32(math.Float32bits(mul(f, inv)+magic)) - int32(math.Float32bits(magic))
			c[i] = int8(min(max(q, -127), 127))
		}
		scales[b] = scale
	}
}

// int8Rows gives the input rows of an integer product, as floatRows does.
type int8Rows struct {
	codes  []int8
	scales []float32
	stride int // values per row
	offset int // first column
	cols   int
	ids    []int32
	div    int
}

func (q *int8Rows) row(i int) (codes []int8, scales []float32) {
	if q.ids != nil {
		i = int(q.ids[i]) / q.div
	}
	at := i*q.stride + q.offset
	b := at / block
	return q.codes[at : at+q.cols], q.scales[b : b+q.cols/block]
}

// tile is up to tileTokens input rows, packed for the multiplication, and the
// scales of a panel of weights.
type tile struct {
	tokens, groups int
	blocks         int
	words          []int64   // [cols][tileGroups]: three tokens side by side
	scales         []float32 // [blocks][tileTokens]; zero in unused lanes
	weightScales   []float32 // [MatmulPanel][blocks]
	offsets        []int32   // [blocks], of a single row
}

// newTile lends a tile out of the worker's scratch memory.
func newTile(g *Group, cols int) tile {
	nb := cols / block
	f := g.scratch(nb * (tileTokens + metal.MatmulPanel + 1))
	scales, f := f[:nb*tileTokens], f[nb*tileTokens:]
	return tile{
		blocks: nb, words: g.words(tileGroups * cols), scales: scales, weightScales: f[:nb*metal.MatmulPanel],
		offsets: unsafe.Slice((*int32)(unsafe.Pointer(&f[nb*metal.MatmulPanel])), nb),
	}
}

// pack fills the tile with rows [t, t+n) of in.
func (p *tile) pack(in *int8Rows, t, n int) {
	p.tokens, p.groups = n, (n+lanes-1)/lanes
	if n < tileTokens {
		clear(p.scales)
		clear(p.words)
	}
	for i := range n {
		codes, scales := in.row(t + i)
		packLane(p.words[i/lanes:], codes, i%lanes)
		for b, s := range scales {
			p.scales[b*tileTokens+i] = s
		}
	}
}

// packLane adds one token's codes to every tileGroups-th word. Lanes come in
// order; the sign of a lane borrows from those above it.
func packLane(words []int64, codes []int8, lane int) {
	at := 0
	if lane == 0 {
		for _, c := range codes {
			words[at] = int64(c)
			at += tileGroups
		}
		return
	}
	shift := uint(laneBits*lane) & 63
	for _, c := range codes {
		words[at] += int64(c) << shift
		at += tileGroups
	}
}

// blockSums multiplies one block of weights with the four words of each column.
func blockSums(w *[block]int8, p *[block][tileGroups]int64) (a, b, c, d int64) {
	for i := 0; i < block; i += 2 {
		x, q := int64(w[i]), &p[i]
		a += x * q[0]
		b += x * q[1]
		c += x * q[2]
		d += x * q[3]
		x, q = int64(w[i+1]), &p[i+1]
		a += x * q[0]
		b += x * q[1]
		c += x * q[2]
		d += x * q[3]
	}
	return
}

// blockSum is blockSums for the first word of each column.
func blockSum(w *[block]int8, p *[block][tileGroups]int64) (a int64) {
	for i, x := range w {
		a += int64(x) * p[i][0]
	}
	return
}

// addLanes adds the three signed sums of one word to acc.
func addLanes(acc, scales *[lanes]float32, sums int64, dw float32) {
	const up = 64 - laneBits
	s0 := sums << up >> up
	sums = (sums - s0) >> laneBits
	s1 := sums << up >> up
	s2 := (sums - s1) >> laneBits
	acc[0] += mul(mul(dw, scales[0]), float32(s0))
	acc[1] += mul(mul(dw, scales[1]), float32(s1))
	acc[2] += mul(mul(dw, scales[2]), float32(s2))
}

// rowTile is one row of weights times a tile. dw are the row's scales.
func (p *tile) rowTile(acc *[tileTokens]float32, w []byte, dw []float32) {
	*acc = [tileTokens]float32{}
	words, scales := p.words, p.scales
	for _, d := range dw {
		codes := (*[block]int8)(unsafe.Pointer(&w[2:q8Bytes:q8Bytes][0]))
		columns := (*[block][tileGroups]int64)(unsafe.Pointer(&words[: block*tileGroups : block*tileGroups][0]))
		s := (*[tileTokens]float32)(scales)
		if p.groups == 1 {
			addLanes((*[lanes]float32)(acc[:]), (*[lanes]float32)(s[:]), blockSum(codes, columns), d)
		} else {
			s0, s1, s2, s3 := blockSums(codes, columns)
			addLanes((*[lanes]float32)(acc[0:]), (*[lanes]float32)(s[0:]), s0, d)
			addLanes((*[lanes]float32)(acc[3:]), (*[lanes]float32)(s[3:]), s1, d)
			addLanes((*[lanes]float32)(acc[6:]), (*[lanes]float32)(s[6:]), s2, d)
			addLanes((*[lanes]float32)(acc[9:]), (*[lanes]float32)(s[9:]), s3, d)
		}
		w, words, scales = w[q8Bytes:], words[block*tileGroups:], scales[tileTokens:]
	}
}

// q8Scale is the scale of the block at the start of w.
func q8Scale(w []byte) float32 { return quant.F16ToF32(uint16(w[0]) | uint16(w[1])<<8) }

// A single row of activations has no neighbours to share a multiplication with,
// but its own columns have: (u + v*2^32)*(p + q*2^32) holds u*q + v*p in its upper
// half. Weights are spread by masks, four bytes apart, and made unsigned for it;
// activations are spread once per panel. A block's upper sum is at most
// 32*255*127 < 2^31, its lower one less.

const (
	pairs     = block / 2
	byteMask  = 0x000000ff_000000ff
	bias      = 128
	biasBytes = 0x80808080_80808080
)

// spread prepares one row of activations for pairSum: words [cols/2], and per
// block what the bias of the weights adds.
func spread(words []int64, offsets []int32, codes []int8) {
	for b := range offsets {
		q, y := (*[block]int8)(codes[b*block:]), (*[pairs]int64)(words[b*pairs:])
		var sum int32
		for i := range pairs {
			k := i/4*8 + i%4 // columns k and k+4 go together
			y[i] = int64(q[k+4]) + int64(q[k])<<32
			sum += int32(q[k]) + int32(q[k+4])
		}
		offsets[b] = bias * sum
	}
}

// pairSum multiplies one block of weights, bias included, with spread activations.
func pairSum(w *[block]byte, y *[pairs]int64) int32 {
	var a, b int64
	for i := 0; i < block/8; i++ {
		x := binary.LittleEndian.Uint64(w[8*i:]) ^ biasBytes
		z := (*[4]int64)(y[4*i:])
		a += int64(x&byteMask) * z[0]
		b += int64(x>>8&byteMask) * z[1]
		a += int64(x>>16&byteMask) * z[2]
		b += int64(x>>24&byteMask) * z[3]
	}
	a += b
	return int32((a - int64(int32(a))) >> 32)
}

// matmulInt8Row computes rows [lo, hi) of w for one input row.
func matmulInt8Row(dst []float32, w []byte, lo, hi int, in *int8Rows, p *tile) {
	codes, scales := in.row(0)
	words, offsets := p.words[:len(codes)/2], p.offsets[:len(scales)]
	spread(words, offsets, codes)
	for r := lo; r < hi; r++ {
		raw := w[r*len(scales)*q8Bytes : (r+1)*len(scales)*q8Bytes]
		var acc float32
		for b, da := range scales {
			blk := (*[q8Bytes]byte)(raw[b*q8Bytes:])
			sum := pairSum((*[block]byte)(blk[2:]), (*[pairs]int64)(words[b*pairs:])) - offsets[b]
			acc += mul(mul(q8Scale(blk[:]), da), float32(sum))
		}
		dst[r] = acc
	}
}

// matmulInt8Panel computes rows [lo, hi) of w for n input rows.
func matmulInt8Panel(w []byte, lo, hi, n int, in *int8Rows, out *outRows, p *tile) {
	rowBytes := in.cols / block * q8Bytes
	if n == 1 {
		matmulInt8Row(out.row(0), w, lo, hi, in, p)
		return
	}
	for r := lo; r < hi; r++ {
		for b := range p.blocks {
			p.weightScales[(r-lo)*p.blocks+b] = q8Scale(w[r*rowBytes+b*q8Bytes:])
		}
	}
	var acc [tileTokens]float32
	for t := 0; t < n; t += tileTokens {
		p.pack(in, t, min(tileTokens, n-t))
		for r := lo; r < hi; r++ {
			p.rowTile(&acc, w[r*rowBytes:(r+1)*rowBytes], row(p.weightScales, r-lo, p.blocks))
			for i := range p.tokens {
				out.row(t + i)[r] = acc[i]
			}
		}
	}
}

// matmulInt8: weights, codes, scales -> out.
func matmulInt8(g *Group) {
	a := argsOf[metal.MatmulArgs](g)
	lo, hi := panelRange(g.X, int(a.Rows))
	cols := int(a.Cols)
	p := newTile(g, cols)
	for lo < hi {
		group := lo / int(a.GroupRows)
		end := min(hi, (group+1)*int(a.GroupRows))
		in := int8Rows{
			codes: g.i8(1), scales: g.f32(2),
			stride: int(a.Stride), offset: group * cols, cols: cols,
		}
		out := outRows{out: g.f32(3), stride: int(a.OutStride)}
		matmulInt8Panel(g.bytes(0), lo, end, int(a.Tokens), &in, &out, &p)
		lo = end
	}
}
