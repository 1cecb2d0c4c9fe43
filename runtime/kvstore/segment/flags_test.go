package segment

import (
	"bytes"
	"testing"
)

// The flag must come back, and leave the name alone.
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
}
