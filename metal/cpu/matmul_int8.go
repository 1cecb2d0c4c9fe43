package cpu

import (
	"math"
	"unsafe"

	"ds4/metal"
	"ds4/metal/quant"
)

// Matrix products of Q8_0 weights with int8 activations.
//
// The sum of a 32-value block is an exact integer, so how it is computed is
// free. Plain Go has no vector instructions, but one 64-bit multiplication can
// serve three tokens: with weights and activations made unsigned (+128), a
// product has 16 bits and a block's sum at most 32*255*255 < 2^21, so three
// sums fit side by side in one word. Blocks are then added in float32, in
// ascending order, with scales dw*da: that order is the same in every path.

const (
	block      = metal.Int8Block
	q8Bytes    = 2 + block
	lanes      = 3 // tokens per word
	laneBits   = 21
	laneMask   = 1<<laneBits - 1
	tileGroups = 4 // words per column of a tile
	tileTokens = lanes * tileGroups
	bias       = 128
	biasBlock  = block * bias * bias // what the biases add beyond those of each side
)

// quantizeInt8: x -> codes, scales, sums.
func quantizeInt8(g *Group) {
	n := int(argsOf[metal.QuantizeArgs](g).N)
	quantizeRow(row(g.i8(1), g.X, n), row(g.f32(2), g.X, n/block), row(g.i32(3), g.X, n/block), row(g.f32(0), g.X, n))
}

// quantizeRow rounds x to int8 per block: scale = max/127, ties to even.
func quantizeRow(codes []int8, scales []float32, sums []int32, x []float32) {
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
		var sum int32
		for i, f := range v {
			// Adding and taking away 1.5*2^23 rounds to the nearest integer, ties to even.
			const magic = 3 << 22
			q := int32(math.Float32bits(mul(f, inv)+magic)) - int32(math.Float32bits(magic))
			q = min(max(q, -127), 127)
			sum += q
			c[i] = int8(q)
		}
		scales[b], sums[b] = scale, sum
	}
}

// int8Rows gives the input rows of an integer product, as floatRows does.
type int8Rows struct {
	codes  []int8
	scales []float32
	sums   []int32
	stride int // values per row
	offset int // first column
	cols   int
	ids    []int32
	div    int
}

func (q *int8Rows) row(i int) (codes []int8, scales []float32, sums []int32) {
	if q.ids != nil {
		i = int(q.ids[i]) / q.div
	}
	at := i*q.stride + q.offset
	b, nb := at/block, q.cols/block
	return q.codes[at : at+q.cols], q.scales[b : b+nb], q.sums[b : b+nb]
}

// tile is up to tileTokens input rows, packed for the multiplication.
type tile struct {
	tokens, groups int
	blocks         int
	words          []uint64  // [groups][cols]: three tokens side by side
	scales         []float32 // [blocks][tileTokens]; zero in unused lanes
	offsets        []int32   // [blocks][tileTokens]: what the biases of the activations add
}

// pack fills the tile with rows [t, t+n) of in.
func (p *tile) pack(in *int8Rows, t, n int) {
	p.tokens, p.groups, p.blocks = n, (n+lanes-1)/lanes, in.cols/block
	clear(p.scales[:p.blocks*tileTokens])
	for gi := range p.groups {
		words := p.words[gi*in.cols : (gi+1)*in.cols]
		for lane := range lanes {
			i := gi*lanes + lane
			if i >= n {
				break
			}
			codes, scales, sums := in.row(t + i)
			packLane(words, codes, lane)
			for b, s := range scales {
				p.scales[b*tileTokens+i] = s
				p.offsets[b*tileTokens+i] = bias*(sums[b]+block*bias) - biasBlock
			}
		}
	}
}

func packLane(words []uint64, codes []int8, lane int) {
	codes = codes[:len(words)]
	if lane == 0 {
		for k, c := range codes {
			words[k] = uint64(uint8(c) ^ 0x80)
		}
		return
	}
	shift := uint(laneBits * lane)
	for k, c := range codes {
		words[k] |= uint64(uint8(c)^0x80) << (shift & 63)
	}
}

// blockSums4 multiplies one block of weights with four words per column.
func blockSums4(w *[block]uint8, p, q, r, s *[block]uint64) (a, b, c, d, sum uint64) {
	for i, u := range w {
		x := uint64(u ^ 0x80)
		sum += x
		a += x * p[i]
		b += x * q[i]
		c += x * r[i]
		d += x * s[i]
	}
	return
}

// blockSums1 multiplies one block of weights with one word per column.
func blockSums1(w *[block]uint8, p *[block]uint64) (a, sum uint64) {
	for i, u := range w {
		x := uint64(u ^ 0x80)
		sum += x
		a += x * p[i]
	}
	return
}

// addLanes adds the three products of one word to acc.
func addLanes(acc, scales []float32, offsets []int32, sums uint64, dw float32, wbias int32) {
	acc, scales, offsets = acc[:lanes], scales[:lanes], offsets[:lanes]
	acc[0] += mul(mul(dw, scales[0]), float32(int32(sums&laneMask)-wbias-offsets[0]))
	acc[1] += mul(mul(dw, scales[1]), float32(int32(sums>>laneBits&laneMask)-wbias-offsets[1]))
	acc[2] += mul(mul(dw, scales[2]), float32(int32(sums>>(2*laneBits))-wbias-offsets[2]))
}

// rowTile is one row of weights times a tile.
func (p *tile) rowTile(acc *[tileTokens]float32, w []byte, cols int) {
	*acc = [tileTokens]float32{}
	for b := range p.blocks {
		raw := w[b*q8Bytes : (b+1)*q8Bytes]
		dw := quant.F16ToF32(uint16(raw[0]) | uint16(raw[1])<<8)
		codes := (*[block]uint8)(raw[2:])
		scales, offsets := p.scales[b*tileTokens:(b+1)*tileTokens], p.offsets[b*tileTokens:(b+1)*tileTokens]
		at := func(g int) *[block]uint64 { return (*[block]uint64)(p.words[g*cols+b*block:]) }
		if p.groups == tileGroups {
			s0, s1, s2, s3, sum := blockSums4(codes, at(0), at(1), at(2), at(3))
			wbias := bias * int32(sum)
			addLanes(acc[0:], scales[0:], offsets[0:], s0, dw, wbias)
			addLanes(acc[3:], scales[3:], offsets[3:], s1, dw, wbias)
			addLanes(acc[6:], scales[6:], offsets[6:], s2, dw, wbias)
			addLanes(acc[9:], scales[9:], offsets[9:], s3, dw, wbias)
			continue
		}
		for g := range p.groups {
			s, sum := blockSums1(codes, at(g))
			addLanes(acc[g*lanes:], scales[g*lanes:], offsets[g*lanes:], s, dw, bias*int32(sum))
		}
	}
}

// rowOne is one row of weights times one row of activations.
func rowOne(w []byte, codes []int8, scales []float32) (acc float32) {
	for b, da := range scales {
		raw := w[b*q8Bytes : (b+1)*q8Bytes]
		dw := quant.F16ToF32(uint16(raw[0]) | uint16(raw[1])<<8)
		p, q := (*[block]uint8)(raw[2:]), (*[block]int8)(codes[b*block:])
		var s0, s1 int32
		for i := 0; i < block; i += 2 {
			s0 += int32(int8(p[i])) * int32(q[i])
			s1 += int32(int8(p[i+1])) * int32(q[i+1])
		}
		acc += mul(mul(dw, da), float32(s0+s1))
	}
	return acc
}

// newTile lends a tile out of the worker's scratch memory.
func newTile(g *Group, cols int) tile {
	nb := cols / block * tileTokens
	f := g.scratch(2 * nb)
	return tile{
		words:   g.words(tileGroups * cols),
		scales:  f[:nb],
		offsets: unsafe.Slice((*int32)(unsafe.Pointer(&f[nb])), nb),
	}
}

// matmulInt8Panel computes rows [lo, hi) of w for n input rows.
func matmulInt8Panel(w []byte, lo, hi, n int, in *int8Rows, out *outRows, p *tile) {
	rowBytes := in.cols / block * q8Bytes
	if n == 1 {
		codes, scales, _ := in.row(0)
		dst := out.row(0)
		for r := lo; r < hi; r++ {
			dst[r] = rowOne(w[r*rowBytes:(r+1)*rowBytes], codes, scales)
		}
		return
	}
	var acc [tileTokens]float32
	for t := 0; t < n; t += tileTokens {
		p.pack(in, t, min(tileTokens, n-t))
		for r := lo; r < hi; r++ {
			p.rowTile(&acc, w[r*rowBytes:(r+1)*rowBytes], in.cols)
			for i := range p.tokens {
				out.row(t + i)[r] = acc[i]
			}
		}
	}
}

// matmulInt8: weights, codes, scales, sums -> out.
func matmulInt8(g *Group) {
	a := argsOf[metal.MatmulArgs](g)
	lo, hi := panelRange(g.X, int(a.Rows))
	cols := int(a.Cols)
	p := newTile(g, cols)
	for lo < hi {
		group := lo / int(a.GroupRows)
		end := min(hi, (group+1)*int(a.GroupRows))
		in := int8Rows{
			codes: g.i8(1), scales: g.f32(2), sums: g.i32(3),
			stride: int(a.Stride), offset: group * cols, cols: cols,
		}
		out := outRows{out: g.f32(4), stride: int(a.OutStride)}
		matmulInt8Panel(g.bytes(0), lo, end, int(a.Tokens), &in, &out, &p)
		lo = end
	}
}
