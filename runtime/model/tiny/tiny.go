// Package tiny embeds ds4-tiny, a 21-million-parameter model of the whole
// DeepSeek V4 architecture, trained on the Go standard library, WordNet and
// synthetic dialogues. It is what `ds4 serve` serves without a model file.
package tiny

import (
	_ "embed"
	"unsafe"

	"ds4/runtime/gguf"
)

// Name is what the embedded file is called in messages.
const Name = "ds4-tiny (embedded)"

//go:embed ds4-tiny-q8_0.gguf
var file string

// Open parses the embedded model. Its tensors are views of the program's own
// read-only image: opening it copies nothing, and writing to them would fault.
func Open() (*gguf.File, error) {
	return gguf.Parse(Bytes(), Name)
}

// Bytes is the embedded GGUF file. It must not be written to.
func Bytes() []byte {
	return unsafe.Slice(unsafe.StringData(file), len(file))
}
