package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// The flag must come back, leave the name alone, and be the only one.
func TestSampledFlag(t *testing.T) {
	s, l := sample()
	plain := s.ID()
	s.Sampled = true
	if s.ID() != plain {
		t.Errorf("the name is %v, without the flag %v", s.ID(), plain)
	}
	file := encode(t, l, s)
	r := Reader{R: bytes.NewReader(file), Size: int64(len(file))}
	if got, err := r.Decode(l, s.Identity); err != nil || !got.Sampled {
		t.Errorf("decoded: %v", err)
	}
	binary.LittleEndian.PutUint16(file[offFlags:], 2|flagSampled)
	binary.LittleEndian.PutUint32(file[offCRC:], 0)
	binary.LittleEndian.PutUint32(file[offCRC:], Checksum(file[:HeaderBytes]))
	if _, err := r.Header(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("an unknown flag: %v", err)
	}
}
