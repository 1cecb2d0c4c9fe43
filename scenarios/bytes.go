package scenarios

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Bytes is a number of bytes that a scenario file writes as 4096, "100KiB" or
// "64MiB".
type Bytes int64

// byteUnits are the units, largest first.
var byteUnits = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"", 1}}

// bytesPattern is the form for the JSON Schema.
const bytesPattern = `^[0-9]{1,12}(KiB|MiB|GiB)?$`

// maxBytes bounds every number of bytes in a scenario file.
const maxBytes = 1 << 40

// ParseBytes reads a number of bytes: not negative, with or without a unit.
func ParseBytes(text string) (Bytes, error) {
	for _, u := range byteUnits {
		digits, ok := strings.CutSuffix(text, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > maxBytes/u.size || digits[0] == '+' || digits[0] == '-' {
			break
		}
		return Bytes(n * u.size), nil
	}
	return 0, fmt.Errorf("%w: bytes %q: want a number of at most 1 TiB, alone or with KiB, MiB or GiB", ErrInvalid, text)
}

// UnmarshalYAML reads a number of bytes.
func (b *Bytes) UnmarshalYAML(n ast.Node) error {
	text := n.GetToken().Value
	v, err := ParseBytes(text)
	if err != nil || n.Type() != ast.StringType && n.Type() != ast.IntegerType {
		return badNode(n, "bytes %q: want a number, alone or with KiB, MiB or GiB", text)
	}
	*b = v
	return nil
}

// MarshalText writes the number as UnmarshalYAML reads it.
func (b Bytes) MarshalText() ([]byte, error) {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.size == 0 {
			return []byte(strconv.FormatInt(int64(b)/u.size, 10) + u.name), nil
		}
	}
	return []byte(strconv.FormatInt(int64(b), 10)), nil
}
