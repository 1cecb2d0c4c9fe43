package cli

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/runtime/config"
	"ds4/runtime/engine"
	"ds4/runtime/model"
)

func (a *app) logitsCommand() *cobra.Command {
	var (
		s         settings
		m         config.Model
		faults    config.Faults
		file, out string
		positions string
	)
	s.AddModel(&m)
	s.AddFaults(&faults)
	cmd := a.command("logits --tokens-file T.json --positions LIST -o OUT.f32", "write the logits at positions of a token sequence", noArgs, &s,
		func(cmd *cobra.Command, _ []string) error {
			if file == "" || out == "" {
				return badUsage("--tokens-file and -o are needed")
			}
			tokens, err := readTokens(file)
			if err != nil {
				return err
			}
			list, err := parsePositions(positions, len(tokens))
			if err != nil {
				return badUsage("--positions: %w", err)
			}
			if !s.Explicit("ctx") || m.Context < len(tokens) {
				m.Context = max(len(tokens), 2)
			}
			return a.logits(cmd.Context(), &m, &faults, tokens, list, out)
		})
	cmd.Long = `Evaluates a sequence of tokens and writes the logits at some of its positions, one row
of the vocabulary's width each, for comparison with other programs. Prints a JSON
object: model, numerics, positions, the likeliest token at each, and tokens/s. The
context is as long as the sequence unless --ctx is longer.`
	cmd.Example = `  ds4 tokenize --json "some text" >T.json
  ds4 logits --tokens-file T.json --positions 0,1 --numerics reference -o OUT.f32`
	cmd.Flags().StringVar(&file, "tokens-file", "", "JSON array of token ids, `FILE`")
	cmd.Flags().StringVar(&positions, "positions", "all", "positions whose logits are written, `LIST` such as 0,5,17, or all")
	cmd.Flags().StringVarP(&out, "output", "o", "", "write rows of little-endian float32 to `FILE`, in the order of the positions")
	return cmd
}

// readTokens reads a JSON array of token ids.
func readTokens(name string) ([]int32, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, badInput(err)
	}
	defer f.Close()
	text, err := readText(f, name)
	if err != nil {
		return nil, err
	}
	var tokens []int32
	if err := json.Unmarshal([]byte(text), &tokens); err != nil {
		return nil, badUsage("%s: want a JSON array of token ids: %w", name, err)
	}
	if len(tokens) == 0 {
		return nil, badUsage("%s: the array is empty", name)
	}
	return tokens, nil
}

// parsePositions reads "all" or a list of positions below n, in any order.
func parsePositions(text string, n int) ([]int, error) {
	var list []int
	if text == "all" {
		for i := range n {
			list = append(list, i)
		}
		return list, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		p, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil || p < 0 || p >= n {
			return nil, fmt.Errorf("%q is no position of %d tokens, want 0 to %d", word, n, n-1)
		}
		list = append(list, p)
	}
	return list, nil
}

// logitsSummary is what the command prints.
type logitsSummary struct {
	Model        string  `json:"model"`
	Numerics     string  `json:"numerics"`
	Tokens       int     `json:"tokens"`
	Vocab        int     `json:"vocab"`
	Positions    []int   `json:"positions"`
	Argmax       []int   `json:"argmax"`
	Output       string  `json:"output"`
	PrefillSecs  float64 `json:"prefill_seconds"`
	PrefillSpeed float64 `json:"prefill_tps"`
}

// logits evaluates tokens and writes the rows as they come.
func (a *app) logits(ctx context.Context, m *config.Model, faults *config.Faults, tokens []int32, positions []int, out string) (err error) {
	w, err := loadModel(m)
	if err != nil {
		return err
	}
	defer w.close()
	available, source := memoryBudget(m)
	plan, err := planMemory(w.model, m, 1, available, source)
	if err != nil {
		return err
	}
	cpuDev, err := newCPU(m.Threads)
	if err != nil {
		return err
	}
	dev, err := armFaults(faults, a.Environ, cpuDev, a.plainLog)
	if err != nil {
		cpuDev.Close()
		return err
	}
	defer dev.Close()
	eng, err := engine.New(w.model, dev, plan.options(m))
	if err != nil {
		return err
	}
	defer eng.Close()
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			removeFile(out) // half a file looks like a whole one
		}
	}()
	rows := newRowWriter(f, w.model, positions)
	start := time.Now()
	if err := evaluate(ctx, eng, tokens, rows); err != nil {
		return err
	}
	elapsed := time.Since(start).Seconds()
	return json.NewEncoder(a.Out).Encode(logitsSummary{
		Model: w.file.Name(), Numerics: eng.Numerics().String(), Tokens: len(tokens), Vocab: w.model.Vocab,
		Positions: positions, Argmax: rows.argmax, Output: out,
		PrefillSecs: elapsed, PrefillSpeed: float64(len(tokens)) / elapsed,
	})
}

// removeFile removes a regular file, never a device or pipe.
func removeFile(name string) {
	if info, err := os.Lstat(name); err == nil && info.Mode().IsRegular() {
		_ = os.Remove(name)
	}
}

// evaluate runs the tokens through a session, chunk by chunk, and hands the rows
// of the positions that are wanted to the writer.
func evaluate(ctx context.Context, eng *engine.Engine, tokens []int32, rows *rowWriter) error {
	sess, err := eng.NewSession()
	if err != nil {
		return err
	}
	defer sess.Release()
	for chunk := range slices.Chunk(tokens, eng.ChunkTokens()) {
		seq := engine.Sequence{Session: sess, Tokens: chunk}
		if rows.wants(sess.Len(), sess.Len()+len(chunk)) {
			seq.EachLogits = rows.row
		}
		if err := eng.Forward(ctx, []engine.Sequence{seq}); err != nil {
			return err
		}
		if rows.err != nil {
			return rows.err
		}
	}
	return nil
}

// rowWriter puts logits rows where the order of the positions wants them.
type rowWriter struct {
	file   *os.File
	at     map[int][]int // position to rows of the file
	argmax []int
	buf    []byte
	err    error
}

func newRowWriter(f *os.File, m *model.Model, positions []int) *rowWriter {
	w := &rowWriter{file: f, at: map[int][]int{}, argmax: make([]int, len(positions)), buf: make([]byte, 4*m.Vocab)}
	for i, p := range positions {
		w.at[p] = append(w.at[p], i)
	}
	return w
}

// wants reports whether a position in [from, to) is asked for.
func (w *rowWriter) wants(from, to int) bool {
	for p := from; p < to; p++ {
		if w.at[p] != nil {
			return true
		}
	}
	return false
}

// row writes one row and notes its greatest value, the lowest id among equals.
func (w *rowWriter) row(position int, logits []float32) {
	rows := w.at[position]
	if rows == nil || w.err != nil {
		return
	}
	best := 0
	for i, x := range logits {
		if x > logits[best] {
			best = i
		}
		binary.LittleEndian.PutUint32(w.buf[4*i:], math.Float32bits(x))
	}
	for _, i := range rows {
		w.argmax[i] = best
		if _, err := w.file.WriteAt(w.buf, int64(i)*int64(len(w.buf))); err != nil {
			w.err = err
		}
	}
}

// plainLog writes a line to the error stream.
func (a *app) plainLog(format string, args ...any) {
	fmt.Fprintf(a.Err, "ds4: "+format+"\n", args...)
}
