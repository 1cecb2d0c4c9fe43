package tokenizer

// Byte-level BPE writes every byte as one printable code point: bytes that are
// printable in Latin-1 stand for themselves, the other 68 follow in increasing
// order from U+0100. Token strings and merges in a model file use this alphabet.

// alphabetSize is one past the highest code point of the alphabet.
const alphabetSize = 0x100 + 68

var (
	byteToRune [256]rune
	runeToByte [alphabetSize]int16 // -1: not a letter of the alphabet
)

func init() {
	for i := range runeToByte {
		runeToByte[i] = -1
	}
	next := rune(0x100)
	for b := range 256 {
		r := rune(b)
		if !selfMapped(b) {
			r = next
			next++
		}
		byteToRune[b] = r
		runeToByte[r] = int16(b)
	}
}

func selfMapped(b int) bool {
	return b >= 33 && b <= 126 || b >= 161 && b <= 172 || b >= 174
}

// appendDecoded appends the bytes that s spells in the alphabet; ok is false,
// and dst unchanged, if s holds a code point outside it.
func appendDecoded(dst []byte, s string) (out []byte, ok bool) {
	out = dst
	for _, r := range s {
		if r >= alphabetSize || runeToByte[r] < 0 {
			return dst, false
		}
		out = append(out, byte(runeToByte[r]))
	}
	return out, true
}
