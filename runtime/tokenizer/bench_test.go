package tokenizer_test

import (
	"strings"
	"testing"

	"ds4/runtime/model/tiny"
	"ds4/runtime/tokenizer"
)

// BenchmarkEncode encodes 1 MB of prose and code with the embedded vocabulary.
func BenchmarkEncode(b *testing.B) {
	tok := openTiny(b)
	var s strings.Builder
	for s.Len() < 1<<20 {
		for _, g := range readGolden(b) {
			s.WriteString(g.Text)
		}
	}
	text := s.String()[:1<<20]
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		tok.Encode(text)
	}
}

// BenchmarkFromGGUF loads the embedded vocabulary.
func BenchmarkFromGGUF(b *testing.B) {
	f, err := tiny.Open()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := tokenizer.FromGGUF(f); err != nil {
			b.Fatal(err)
		}
	}
}
