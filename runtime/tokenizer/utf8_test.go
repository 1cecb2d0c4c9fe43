package tokenizer_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"ds4/runtime/tokenizer"
)

// However the bytes are cut, the text is that of all bytes at once, every part is
// UTF-8, and no complete character is held back.
func TestUTF8Stream(t *testing.T) {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"a", "é", "日", "🙂", "\xff", "\xe4", "\xe4\xb8", "\xf0\x9f\x99", "\x80", "\xc0\x80", "\xed\xa0\x80", "\ufffd"}),
		rapid.StringN(0, 3, -1),
	)
	rapid.Check(t, func(t *rapid.T) {
		all := strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
		var stream tokenizer.UTF8Stream
		var got strings.Builder
		for rest := all; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "n")
			part := stream.Write([]byte(rest[:n]))
			rest = rest[n:]
			if !utf8.ValidString(part) {
				t.Fatalf("%q is not UTF-8", part)
			}
			got.WriteString(part)
			sent := all[:len(all)-len(rest)]
			if r, _ := utf8.DecodeLastRuneInString(sent); r != utf8.RuneError && got.String() != string([]rune(sent)) {
				t.Fatalf("after %q: %q, a whole character was held back", sent, got.String())
			}
		}
		got.WriteString(stream.Flush())
		if want := string([]rune(all)); got.String() != want {
			t.Fatalf("%q: got %q, want %q", all, got.String(), want)
		}
		if left := stream.Flush(); left != "" {
			t.Fatalf("second flush gives %q", left)
		}
	})
}

func TestUTF8StreamHoldsBack(t *testing.T) {
	var s tokenizer.UTF8Stream
	for i, step := range []struct{ in, out string }{
		{"a\xe6", "a"}, {"\x97", ""}, {"\xa5b", "日b"}, {"\xf0\x9f", ""}, {"x", "\ufffd\ufffdx"}, {"\xff", "\ufffd"}, {"", ""}, {"\xe6\x97", ""},
	} {
		if got := s.Write([]byte(step.in)); got != step.out {
			t.Errorf("step %d: %q gives %q, want %q", i, step.in, got, step.out)
		}
	}
	if got := s.Flush(); got != "\ufffd\ufffd" {
		t.Errorf("flush gives %q", got)
	}
}
