package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"ds4/metal/cpu"
	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/gguf"
	"ds4/runtime/model"
	"ds4/runtime/model/tiny"
	"ds4/runtime/tokenizer"
)

// embeddedID is the name of the embedded model for clients.
const embeddedID = "ds4-tiny"

// openModelFile maps a GGUF file; an empty path is the embedded model.
func openModelFile(path string) (*gguf.File, error) {
	if path == "" {
		return tiny.Open()
	}
	return gguf.Open(path)
}

// weights is a model that is ready for an engine.
type weights struct {
	file  *gguf.File
	model *model.Model
	tok   *tokenizer.Tokenizer // nil if the file has no usable vocabulary
	noTok error                // why not; token ids still work
	id    string               // short name for clients
}

// loadModel opens and checks a model. What is wrong with the file is an error of
// the input.
func loadModel(m *config.Model) (*weights, error) {
	if err := checkBackend(m.Backend); err != nil {
		return nil, err
	}
	file, err := openModelFile(m.Path)
	if err != nil {
		return nil, badInput(err)
	}
	w := &weights{file: file, id: modelID(m.Path)}
	if w.model, err = model.Load(file); err != nil {
		file.Close()
		return nil, badInput(fmt.Errorf("%s: %w", file.Name(), err))
	}
	w.tok, w.noTok = tokenizer.FromGGUF(file)
	if m.WarmWeights {
		w.warm()
	}
	return w, nil
}

// modelID is the short name of a model: that of the file without its ending.
func modelID(path string) string {
	if path == "" {
		return embeddedID
	}
	return strings.TrimSuffix(filepath.Base(path), ".gguf")
}

// warm reads one byte of every page, so that the first request need not.
func (w *weights) warm() byte {
	var sum byte
	step := os.Getpagesize()
	for _, t := range w.file.Tensors() {
		for i := 0; i < len(t.Data); i += step {
			sum += t.Data[i]
		}
	}
	return sum
}

// expertBits is the nominal width of the routed experts' weights, which log lines
// of the cache name.
func (w *weights) expertBits() int {
	switch w.model.Layer[0].Gate.Type {
	case quant.Q2_K, quant.IQ2_XXS:
		return 2
	case quant.Q4_K:
		return 4
	case quant.Q8_0:
		return 8
	case quant.F32:
		return 32
	}
	return 16
}

func (w *weights) close() error { return w.file.Close() }

// checkBackend refuses drivers that this program does not contain. Falling back
// to another one would be slower than anybody expects.
func checkBackend(name string) error {
	if name != "cpu" {
		return badUsage("backend %s is not part of this program; it has: cpu", name)
	}
	return nil
}

// newCPU starts the CPU device. A set of kernels that this machine does not have is
// a wrong setting.
func newCPU(threads int) (*cpu.Device, error) {
	if _, err := kernels.Select(); err != nil {
		return nil, &usageError{err: err}
	}
	return cpu.New(cpu.Options{Threads: threads})
}

// backendName says which kernels a device runs, as in cpu/avx512.
func backendName(d *cpu.Device) string { return d.Name() + "/" + d.Kernels() }

// checkChat reports whether conversations with the model are possible.
func (w *weights) checkChat() error {
	if w.tok == nil {
		return badInput(w.noTok)
	}
	if err := chat.CheckVocabulary(w.tok); err != nil {
		return badInput(fmt.Errorf("%s: %w", w.file.Name(), err))
	}
	return nil
}
