// Package kvrow stores the rows of a KV cache as what they are. The forward pass
// rounds the values of a row before anything reads them: to FP8 or FP4 codes
// with a power-of-two scale per block, or to F16. A Codec keeps codes, scales
// and halves instead of float32.
//
// Promises. Unpack(Pack(row)) has the bits of row, the sign of a zero included,
// for every row that Pack takes; a row that was not rounded like that, or holds
// a NaN or an infinity, is refused, never approximated. Equal rows give equal
// bytes. Unpack refuses bytes that Pack cannot have written if they would give a
// NaN or an infinity.
//
// Not promised: that bytes which Unpack accepts are what Pack makes of the
// values. The same values can be written with a larger scale.
package kvrow

import (
	"errors"
	"fmt"
	"strings"
)

var (
	// ErrInexact is wrapped when a value is not one of its form.
	ErrInexact = errors.New("kvrow: the value was not rounded to the row's form")
	// ErrCorrupt is wrapped when packed bytes hold no finite value.
	ErrCorrupt = errors.New("kvrow: not a packed row")
	// ErrSize is wrapped when a buffer does not hold whole rows, or a codec would
	// have impossible ones.
	ErrSize = errors.New("kvrow: wrong size")
)

// Form says how the values of a part of a row are stored.
type Form uint8

// The forms. Blocks of E4M3 and E2M1 carry a byte more each, the exponent of
// their scale plus 127.
const (
	F32  Form = iota // 4 bytes: float32, as they are
	F16              // 2 bytes: IEEE 754 halves
	E4M3             // 1 byte: FP8, in blocks of 64
	E2M1             // half a byte: FP4, in blocks of 32; the first value of a byte in its low half
)

// Block lengths.
const (
	e4m3Block = 64
	e2m1Block = 32
)

var forms = [...]struct {
	name   string
	block  int
	stored int // bytes of a block
}{
	F32:  {"f32", 1, 4},
	F16:  {"f16", 1, 2},
	E4M3: {"e4m3", e4m3Block, e4m3Block + 1},
	E2M1: {"e2m1", e2m1Block, e2m1Block/2 + 1},
}

// Part is a run of values of one form: all codes of the part, then the exponents
// of its blocks.
type Part struct {
	Form   Form
	Values int
}

// Codec packs and unpacks rows of one layout. The zero value has no values.
type Codec struct {
	parts         []part
	values, bytes int
}

type part struct {
	Part
	bytes int // of a row
}

// maxValues bounds a row.
const maxValues = 1 << 20

// New returns the codec of rows made of parts, in their order. Parts of no
// values are left out.
func New(parts ...Part) (Codec, error) {
	var c Codec
	for _, p := range parts {
		switch {
		case int(p.Form) >= len(forms):
			return Codec{}, fmt.Errorf("%w: unknown form %d", ErrSize, p.Form)
		case p.Values < 0 || p.Values > maxValues-c.values || p.Values%forms[p.Form].block != 0:
			return Codec{}, fmt.Errorf("%w: %d values of %s after %d, want blocks of %d and at most %d in all",
				ErrSize, p.Values, forms[p.Form].name, c.values, forms[p.Form].block, maxValues)
		case p.Values == 0:
			continue
		}
		stored := p.Values / forms[p.Form].block * forms[p.Form].stored
		c.parts = append(c.parts, part{p, stored})
		c.values += p.Values
		c.bytes += stored
	}
	if c.values == 0 {
		return Codec{}, fmt.Errorf("%w: a row of no values", ErrSize)
	}
	return c, nil
}

// Values is the number of values of a row.
func (c *Codec) Values() int { return c.values }

// Bytes is the size of a packed row.
func (c *Codec) Bytes() int { return c.bytes }

// String names the layout, as in "e4m3*128+f16*64".
func (c *Codec) String() string {
	var b strings.Builder
	for i, p := range c.parts {
		if i > 0 {
			b.WriteByte('+')
		}
		fmt.Fprintf(&b, "%s*%d", forms[p.Form].name, p.Values)
	}
	return b.String()
}

// rows checks the sizes of both sides.
func (c *Codec) rows(values, bytes int) (int, error) {
	if c.values == 0 || values%c.values != 0 || values/c.values*c.bytes != bytes {
		return 0, fmt.Errorf("%w: %d values and %d bytes, a row has %d and %d", ErrSize, values, bytes, c.values, c.bytes)
	}
	return values / c.values, nil
}

// Pack writes the rows of src, Values each, to dst, which has exactly Bytes for each
// (ErrSize). A value that the form does not have is ErrInexact. After an error dst
// holds nothing of use.
func (c *Codec) Pack(dst []byte, src []float32) error {
	n, err := c.rows(len(src), len(dst))
	if err != nil {
		return err
	}
	for row := range n {
		at := 0
		for i := range c.parts {
			p := &c.parts[i]
			if bad := packPart(p.Part, dst[:p.bytes], src[:p.Values]); bad >= 0 {
				return fmt.Errorf("%w: row %d, value %d of %s is %v", ErrInexact, row, at+bad, c, src[bad])
			}
			dst, src, at = dst[p.bytes:], src[p.Values:], at+p.Values
		}
	}
	return nil
}

// Unpack writes the rows of src, Bytes each, to dst, which has exactly Values for
// each (ErrSize). Bytes that give no finite value are ErrCorrupt. After an error dst
// holds nothing of use.
func (c *Codec) Unpack(dst []float32, src []byte) error {
	n, err := c.rows(len(dst), len(src))
	if err != nil {
		return err
	}
	for row := range n {
		at := 0
		for i := range c.parts {
			p := &c.parts[i]
			if !unpackPart(p.Part, dst[:p.Values], src[:p.bytes]) {
				return fmt.Errorf("%w: row %d, values %d to %d of %s", ErrCorrupt, row, at, at+p.Values-1, c)
			}
			dst, src, at = dst[p.Values:], src[p.bytes:], at+p.Values
		}
	}
	return nil
}
