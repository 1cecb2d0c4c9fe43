package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

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
	tok   *tokenizer.Tokenizer // nil if the file has no vocabulary
	id    string               // short name for clients
}

// loadModel opens and checks a model.
func loadModel(m *config.Model) (*weights, error) {
	if err := checkBackend(m.Backend); err != nil {
		return nil, err
	}
	file, err := openModelFile(m.Path)
	if err != nil {
		return nil, err
	}
	w := &weights{file: file, id: modelID(m.Path)}
	if w.model, err = model.Load(file); err == nil {
		w.tok, err = tokenizer.FromGGUF(file)
	}
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("%s: %w", file.Name(), err)
	}
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

func (w *weights) close() error { return w.file.Close() }

// checkBackend refuses drivers that this program does not contain. Falling back
// to another one would be slower than anybody expects.
func checkBackend(name string) error {
	if name != "cpu" {
		return badUsage("backend %s is not part of this program; it has: cpu", name)
	}
	return nil
}
