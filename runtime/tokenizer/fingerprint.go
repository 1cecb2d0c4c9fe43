package tokenizer

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
)

// fingerprintDomain changes whenever the splitter or the layout of the hashed
// bytes does.
const fingerprintDomain = "ds4 tokenizer 1 joyai-llm\x00"

// fingerprint hashes lengths before contents, so no two vocabularies give the
// same stream of bytes.
func (t *Tokenizer) fingerprint() [32]byte {
	h := sha256.New()
	w := bufio.NewWriterSize(h, 1<<16) // neither of the two ever returns an error
	var word [12]byte
	w.WriteString(fingerprintDomain)
	binary.LittleEndian.PutUint32(word[0:], uint32(len(t.tokens)))
	binary.LittleEndian.PutUint32(word[4:], uint32(len(t.merges)))
	w.Write(word[:8])
	for id, s := range t.tokens {
		binary.LittleEndian.PutUint32(word[0:], uint32(len(s)))
		word[4] = 0
		if t.control[id] {
			word[4] = 1
		}
		w.Write(word[:5])
		w.WriteString(s)
	}
	for _, m := range t.merges {
		binary.LittleEndian.PutUint32(word[0:], uint32(m.left))
		binary.LittleEndian.PutUint32(word[4:], uint32(m.right))
		binary.LittleEndian.PutUint32(word[8:], uint32(m.id))
		w.Write(word[:])
	}
	w.Flush()
	return [32]byte(h.Sum(nil))
}
