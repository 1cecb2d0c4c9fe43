package engine

import (
	"errors"
	"fmt"
	"math"

	"ds4/metal"
	"ds4/metal/quant/kvrow"
	"ds4/runtime/model"
)

// Rows leave a session packed, as what the kernels have rounded them to, and
// become what the kernels read when they come back. Nothing of it is approximate: the
// codec refuses what does not fit.

// rowForms says what the rows of a session are, by its numerics.
type rowForms struct{ kv, index kvrow.Codec }

// newRowForms derives the forms of rows from what the kernels round. What is not
// rounded stays float32.
func newRowForms(m *model.Model, n model.Numerics) rowForms {
	rotated, rest, index := kvrow.F32, kvrow.F32, kvrow.F32
	if n.KVF16 {
		rotated, rest = kvrow.F16, kvrow.F16
	}
	if n.KVFP8 {
		rest = kvrow.E4M3
	}
	if n.IndexerFP4 {
		index = kvrow.E2M1
	}
	f := rowForms{kv: codec(kvrow.Part{Form: rest, Values: m.HeadDim - m.RotDim}, kvrow.Part{Form: rotated, Values: m.RotDim})}
	if hasRatio(m, 4) {
		f.index = codec(kvrow.Part{Form: index, Values: m.IndexDim})
	}
	return f
}

// codec is that of rows whose sizes the model's loader has checked.
func codec(parts ...kvrow.Part) kvrow.Codec {
	c, err := kvrow.New(parts...)
	if err != nil {
		panic(fmt.Sprintf("engine: %v", err))
	}
	return c
}

// String names the forms for the identity of stored state.
func (f rowForms) String() string { return "kv " + f.kv.String() + ", index " + f.index.String() }

// packComp packs compressed rows.
func (y *layerLayout) packComp(rows []byte) ([]byte, error) {
	if !y.halves {
		return pack(&y.packed, rows)
	}
	out := make([]byte, len(rows)/y.compBytes*y.packed.Bytes())
	return out, y.packed.PackF16(out, rows)
}

// unpackComp is the inverse.
func (y *layerLayout) unpackComp(dst, packed []byte) error {
	if !y.halves {
		return y.packed.Unpack(floats(dst), packed)
	}
	return y.packed.UnpackF16(dst, packed)
}

// packIndex packs rows [from, to) of an indexer.
func (s *Session) packIndex(y *layerLayout, from, to int) ([]byte, error) {
	if y.panelBytes == 0 {
		return pack(&y.indexPacked, s.rows(y.index, y.indexRowBytes, from, to))
	}
	packed := y.indexPacked.Bytes()
	out := make([]byte, (to-from)*packed)
	codes, scales := y.indexCodes()
	for i := from; i < to; i++ {
		metal.IndexCodes(codes, scales, s.panel(y, i), i%metal.IndexPanel)
		if err := y.indexPacked.PackInt8(out[(i-from)*packed:][:packed], codes, scales); err != nil {
			return nil, fmt.Errorf("row %d: %w", i, err)
		}
	}
	return out, nil
}

var _ = [1]struct{}{}[kvrow.Int8Block-metal.Int8Block]

// indexCodes is room for a row of the indexer.
func (y *layerLayout) indexCodes() (codes []byte, scales []float32) {
	n := y.indexPacked.Values()
	return make([]byte, n), make([]float32, n/metal.Int8Block)
}

// unpackIndex puts packed rows of an indexer in place, from row first on.
func (s *Session) unpackIndex(y *layerLayout, first int, b []byte) error {
	packed := y.indexPacked.Bytes()
	if y.panelBytes == 0 {
		return y.indexPacked.Unpack(floats(s.rows(y.index, y.indexRowBytes, first, first+len(b)/packed)), b)
	}
	codes, scales := y.indexCodes()
	for i := first; len(b) > 0; i, b = i+1, b[packed:] {
		if err := y.indexPacked.UnpackInt8(codes, scales, b[:packed]); err != nil {
			return err
		}
		metal.PutIndexCodes(s.panel(y, i), i%metal.IndexPanel, codes, scales)
	}
	return nil
}

// panel is the one that holds a row of the indexer.
func (s *Session) panel(y *layerLayout, row int) []byte {
	i := row / metal.IndexPanel
	return s.rows(y.index, y.panelBytes, i, i+1)
}

// pack packs float32 rows.
func pack(c *kvrow.Codec, rows []byte) ([]byte, error) {
	v := floats(rows)
	out := make([]byte, len(v)/c.Values()*c.Bytes())
	return out, c.Pack(out, v)
}

var errNotFinite = errors.New("a frontier holds a value that is not finite")

// finite reports whether float32 values are neither NaN nor infinite.
func finite(b []byte) bool {
	for _, v := range floats(b) {
		if math.Float32bits(v)&0x7F800000 == 0x7F800000 {
			return false
		}
	}
	return true
}
