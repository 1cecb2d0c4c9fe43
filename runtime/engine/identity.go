package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"ds4/runtime/model"
)

// StateRevision is part of the identity of stored state. Raise it when the
// meaning of exported rows or frontiers changes: when the forward pass, the row
// formats or the kernels' rounding do.
const StateRevision = 3

// sampleBytes is how much of a tensor's beginning, middle and end is hashed.
const sampleBytes = 4 << 10

// Identity is the SHA-256 that keys the state of this engine: see StateIdentity.
func (e *Engine) Identity(tokenizer [32]byte, template uint32) [32]byte {
	return StateIdentity(e.model, e.opt.Numerics, tokenizer, template)
}

// StateIdentity is the SHA-256 that keys stored state: state of one identity is
// meaningless to an engine of another. It covers the model file (size, tensor
// table, a sample of each tensor, hyperparameters), the tokenizer's
// fingerprint, the revision of the chat template, StateRevision, the numerics and
// the forms that rows are stored in. Context length, threads, chunk, device and host are not part of it.
// The same file gives the same identity in every process.
func StateIdentity(m *model.Model, n model.Numerics, tokenizer [32]byte, template uint32) [32]byte {
	h := sha256.New()
	word := func(v uint64) {
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], v)
		h.Write(b[:])
	}
	text := func(s string) {
		word(uint64(len(s)))
		h.Write([]byte(s))
	}
	text("ds4 state")
	word(StateRevision)
	text(n.String())
	text(newRowForms(m, n).String())
	h.Write(tokenizer[:])
	word(uint64(template))

	f := m.File
	word(uint64(f.Size()))
	text(fmt.Sprintf("%+v", m.Config))
	for _, t := range f.Tensors() {
		text(t.Name)
		word(uint64(t.Type))
		word(t.Offset)
		word(uint64(len(t.Dims)))
		for _, d := range t.Dims {
			word(d)
		}
		sample(h, t.Data)
	}
	return [32]byte(h.Sum(nil))
}

// sample hashes the first, middle and last bytes of a tensor.
func sample(h hash.Hash, data []byte) {
	if len(data) <= 3*sampleBytes {
		h.Write(data)
		return
	}
	middle := (len(data) - sampleBytes) / 2
	h.Write(data[:sampleBytes])
	h.Write(data[middle : middle+sampleBytes])
	h.Write(data[len(data)-sampleBytes:])
}
