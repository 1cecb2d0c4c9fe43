package cli

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ds4/runtime/gguf"
	"ds4/runtime/model/synth"
	"ds4/runtime/model/tiny"
)

func (a *app) modelSynthCommand() *cobra.Command {
	var (
		shape, mix, out string
		seed            uint64
	)
	cmd := a.command("synth -o FILE [--shape SHAPE] [--quant MIX]", "write a model of random weights, for measurements", noArgs, nil,
		func(*cobra.Command, []string) error {
			if out == "" {
				return badUsage("-o FILE is missing")
			}
			spec, err := synth.Named(shape, mix, seed)
			if err != nil {
				return &usageError{err: err}
			}
			n, err := writeSynth(spec, out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.Out, "%s: %s, %s, %s\n", out, shape, mix, formatBytes(uint64(n)))
			return err
		})
	cmd.Long = `Writes a GGUF file with the layers of a known model and random weights: what it
says means nothing, but it takes the time and the memory that the real one would.
The vocabulary and the chat template are those of the embedded model. flash-slice has
five layers of the shape of DeepSeek V4 Flash.`
	cmd.Example = `  ds4 model synth -o slice-q4.gguf
  ds4 model synth --shape tiny --quant q8_0 -o tiny.gguf`
	f := cmd.Flags()
	f.StringVar(&shape, "shape", "flash-slice", "`SHAPE`: "+strings.Join(synth.Shapes(), ", "))
	f.StringVar(&mix, "quant", "q4", "types of the routed experts, `MIX`: "+strings.Join(synth.Quants(), ", "))
	f.StringVarP(&out, "output", "o", "", "`FILE` to write")
	f.Uint64Var(&seed, "seed", 1, "`N` for the random numbers: the same file for the same seed")
	return cmd
}

// writeSynth writes the model, with the embedded model's tokenizer.
func writeSynth(spec synth.Spec, out string) (n int64, err error) {
	w, err := synth.Writer(spec)
	if err != nil {
		return 0, err
	}
	donor, err := tiny.Open()
	if err != nil {
		return 0, err
	}
	if err := copyTokenizer(w, donor, spec.Vocab); err != nil {
		return 0, err
	}
	f, err := os.Create(out)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			removeFile(out) // half a file looks like a whole one
		}
	}()
	const bufferBytes = 4 << 20
	buffered := bufio.NewWriterSize(f, bufferBytes)
	if n, err = w.WriteTo(buffered); err != nil {
		return n, err
	}
	return n, buffered.Flush()
}

func copyTokenizer(w *gguf.Writer, donor *gguf.File, vocab int) error {
	if tokens, ok := donor.Value("tokenizer.ggml.tokens"); !ok || tokens.Len() != vocab {
		return fmt.Errorf("synth: vocabulary of %d, that of the embedded model is another one", vocab)
	}
	for _, key := range donor.Keys() {
		if !strings.HasPrefix(key, "tokenizer.") {
			continue
		}
		v, _ := donor.Value(key)
		if err := w.Set(key, v); err != nil {
			return err
		}
	}
	return nil
}
