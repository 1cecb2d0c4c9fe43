package synth

import (
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"

	"ds4/metal/quant"
)

// chunkBlocks is how many random blocks are written at once.
const chunkBlocks = 1 << 12

// emitBlocks writes n random blocks of t whose values have mean 0 and standard
// deviation std, about. All codes are drawn, the scales are those that it takes.
func emitBlocks(t quant.Type, n int, std float64, seed uint64) func(io.Writer) error {
	size := t.BlockBytes()
	patch := scaleBlock(t, std)
	return func(out io.Writer) error {
		rng := rand.New(rand.NewPCG(seed, uint64(t)))
		buf := make([]byte, chunkBlocks*size) // a multiple of 8
		for left := n; left > 0; left -= chunkBlocks {
			for i := 0; i < len(buf); i += 8 {
				binary.LittleEndian.PutUint64(buf[i:], rng.Uint64())
			}
			part := buf[:min(left, chunkBlocks)*size]
			for at := 0; at < len(part); at += size {
				patch(part[at : at+size])
			}
			if _, err := out.Write(part); err != nil {
				return err
			}
		}
		return nil
	}
}

// scaleBlock sets the scales of a block with random codes.
func scaleBlock(t quant.Type, std float64) func(b []byte) {
	half := func(v float64) uint16 { return quant.F32ToF16(float32(v)) }
	put := binary.LittleEndian.PutUint16
	switch t {
	case quant.Q8_0: // codes -128 to 127
		d := half(std / math.Sqrt((256*256-1)/12.))
		return func(b []byte) { put(b, d) }
	case quant.Q4_K: // codes 0 to 15, all sub-scales and minima 32
		d := std / 32 / math.Sqrt((16*16-1)/12.)
		lo, hi := half(d), half(7.5*d)
		packed := [12]byte{0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0, 0xa0}
		return func(b []byte) {
			put(b, lo)
			put(b[2:], hi)
			copy(b[4:], packed[:])
		}
	case quant.Q2_K: // codes 0 to 3, all sub-scales and minima 8
		d := std / 8 / math.Sqrt((4*4-1)/12.)
		lo, hi := half(d), half(1.5*d)
		return func(b []byte) {
			for i := range 16 {
				b[i] = 0x88
			}
			put(b[80:], lo)
			put(b[82:], hi)
		}
	}
	d := half(std / (0.25 * 7.5 * gridRMS())) // IQ2_XXS, all scales 7
	return func(b []byte) {
		put(b, d)
		for i := 9; i < len(b); i += 8 {
			b[i] = b[i]&15 | 7<<4
		}
	}
}

// gridRMS is the root of the mean square of a coordinate of the IQ2_XXS grid.
func gridRMS() float64 {
	var sum float64
	for i := range 256 {
		for _, v := range quant.GridPoint(uint8(i)) {
			sum += float64(v) * float64(v)
		}
	}
	return math.Sqrt(sum / (256 * 8))
}
