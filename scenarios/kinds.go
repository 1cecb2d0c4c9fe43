package scenarios

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// Kinds lists the fields of a step that are set; a checked step has one.
func (s *Step) Kinds() []string { return setFields(reflect.ValueOf(*s)) }

// Kinds lists the fields of an assertion that are set; a checked one has one.
func (e *Expect) Kinds() []string { return setFields(reflect.ValueOf(*e)) }

func setFields(v reflect.Value) []string {
	var names []string
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			n, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			names = append(names, n)
		}
	}
	return names
}

// maxZeroBytes bounds what one zero operation overwrites, and a planted file.
const maxZeroBytes = 1 << 30

// Count is the number of bytes that the operation overwrites, 1 if absent.
func (k *Corrupt) Count() (int64, error) {
	if k.Bytes == "" {
		return 1, nil
	}
	n, err := strconv.ParseInt(k.Bytes, 10, 64)
	if err != nil || n < 1 || n > maxZeroBytes {
		return 0, fmt.Errorf("%w: bytes %q: want 1 to %d", ErrInvalid, k.Bytes, maxZeroBytes)
	}
	return n, nil
}

// Size is the length of a planted file, 0 if absent.
func (k *Plant) Size() (int64, error) {
	if k.Bytes == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(k.Bytes, 10, 64)
	if err != nil || n < 0 || n > maxZeroBytes {
		return 0, fmt.Errorf("%w: bytes %q: want 0 to %d", ErrInvalid, k.Bytes, maxZeroBytes)
	}
	return n, nil
}

// Passes is the number of repetitions, at least one.
func (s *Scenario) Passes() int { return max(s.Repeat, 1) }
