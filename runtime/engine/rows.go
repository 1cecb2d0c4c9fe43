package engine

import (
	"errors"
	"fmt"
	"math"

	"ds4/metal/quant/kvrow"
	"ds4/runtime/model"
)

// Rows leave a session packed, as what the kernels have rounded them to, and
// become float32 again when they come back. Nothing of it is approximate: the
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
