package cli

import (
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"ds4/metal/cpu/kernels"
	"ds4/metal/quant"
	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/engine"
)

func (a *app) modelCommand() *cobra.Command {
	cmd := a.group("model", "inspect model files, make some for measurements")
	cmd.AddCommand(a.modelInfoCommand(), a.modelSynthCommand())
	return cmd
}

func (a *app) modelInfoCommand() *cobra.Command {
	var (
		s      settings
		m      config.Model
		asJSON bool
	)
	s.AddModel(&m)
	cmd := a.command("info [--json] [-m FILE]", "describe a model and the memory it needs", noArgs, &s,
		func(*cobra.Command, []string) error {
			w, err := loadModel(&m)
			if err != nil {
				return err
			}
			defer w.close()
			info, err := describe(w, &m)
			if err != nil {
				return err
			}
			if asJSON {
				return writeIndented(a.Out, info)
			}
			return info.print(a.Out)
		})
	cmd.Long = `Describes a model: its layers, the types of its tensors, whether conversations with it
are possible, which kernels this machine runs it with, and what a session takes at
--ctx. Nothing is evaluated. DS4_CPU=NAME chooses other kernels.`
	cmd.Example = `  ds4 model info
  ds4 model info -m FILE.gguf --ctx 100000
  ds4 model info --json | jq .session_bytes`
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// modelInfo is what `ds4 model info` tells.
type modelInfo struct {
	File         string       `json:"file"`
	FileBytes    int64        `json:"file_bytes"`
	ID           string       `json:"id"`
	Name         string       `json:"name"`
	Parameters   uint64       `json:"parameters"`
	Tensors      []tensorKind `json:"tensors"`
	Layers       int          `json:"layers"`
	Ratios       []int        `json:"compress_ratios"`
	Dim          int          `json:"embedding_length"`
	Heads        int          `json:"heads"`
	HeadDim      int          `json:"head_dim"`
	Window       int          `json:"sliding_window"`
	Experts      int          `json:"experts"`
	ExpertsUsed  int          `json:"experts_used"`
	HashLayers   int          `json:"hash_layers"`
	HC           int          `json:"hyper_connections"`
	Vocab        int          `json:"vocab"`
	TrainContext int          `json:"train_context"`
	Chat         string       `json:"chat"` // "yes", or why not
	Fingerprint  string       `json:"tokenizer_fingerprint,omitempty"`
	Identity     string       `json:"identity,omitempty"` // of cached state
	Backend      string       `json:"backend"`            // driver and kernels that this machine runs it with
	Numerics     string       `json:"numerics"`
	Context      int          `json:"context"`
	SessionBytes uint64       `json:"session_bytes"`
	ScratchBytes uint64       `json:"scratch_bytes"`
}

// tensorKind sums up the tensors of one type.
type tensorKind struct {
	Type  string `json:"type"`
	Count int    `json:"count"`
	Bytes uint64 `json:"bytes"`
}

// describe collects what is known about a loaded model.
func describe(w *weights, m *config.Model) (*modelInfo, error) {
	session, scratch, err := engine.EstimateBytes(w.model, engineOptions(m))
	if err != nil {
		return nil, err
	}
	set, err := kernels.Select()
	if err != nil {
		return nil, &usageError{err: err}
	}
	c := w.model.Config
	info := &modelInfo{
		Backend: m.Backend + "/" + set.Name,
		File:    w.file.Name(), FileBytes: w.file.Size(), ID: w.id, Name: w.model.Name,
		Layers: c.Layers, Ratios: c.Ratios, Dim: c.Dim, Heads: c.Heads, HeadDim: c.HeadDim, Window: c.Window,
		Experts: c.Experts, ExpertsUsed: c.ExpertsUsed, HashLayers: c.HashLayers, HC: c.HC, Vocab: c.Vocab,
		TrainContext: c.TrainCtx, Chat: "yes",
		Numerics: m.EffectiveNumerics().String(), Context: m.Context, SessionBytes: session, ScratchBytes: scratch,
	}
	if err := w.checkChat(); err != nil {
		info.Chat = "no: " + err.Error()
	}
	if w.tok != nil {
		print := w.tok.Fingerprint()
		id := engine.StateIdentity(w.model, m.EffectiveNumerics(), print, chat.TemplateRevision)
		info.Fingerprint, info.Identity = hex.EncodeToString(print[:]), hex.EncodeToString(id[:])
	}
	kinds := map[quant.Type]*tensorKind{}
	for _, t := range w.file.Tensors() {
		k := kinds[t.Type]
		if k == nil {
			k = &tensorKind{Type: t.Type.String()}
			kinds[t.Type] = k
		}
		k.Count++
		k.Bytes += uint64(len(t.Data))
		if t.Type != quant.I32 { // routing tables are no parameters
			n := uint64(1)
			for _, d := range t.Dims {
				n *= d
			}
			info.Parameters += n
		}
	}
	for _, k := range kinds {
		info.Tensors = append(info.Tensors, *k)
	}
	slices.SortFunc(info.Tensors, func(a, b tensorKind) int { return strings.Compare(a.Type, b.Type) })
	return info, nil
}

// print writes the text form.
func (i *modelInfo) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	row("file", "%s", i.File)
	row("size", "%s", formatBytes(uint64(i.FileBytes)))
	row("name", "%s (id %s)", i.Name, i.ID)
	row("parameters", "%.1f M", float64(i.Parameters)/1e6)
	for _, k := range i.Tensors {
		row("tensors "+k.Type, "%d, %s", k.Count, formatBytes(k.Bytes))
	}
	row("layers", "%d, tokens per compressed row %s", i.Layers, strings.Trim(fmt.Sprint(i.Ratios), "[]"))
	row("width", "%d, %d heads of %d, window %d, %d streams", i.Dim, i.Heads, i.HeadDim, i.Window, i.HC)
	row("experts", "%d of %d per token, %d layers routed by hash", i.ExpertsUsed, i.Experts, i.HashLayers)
	row("vocabulary", "%d", i.Vocab)
	row("trained context", "%d", i.TrainContext)
	row("chat", "%s", i.Chat)
	row("backend", "%s", i.Backend)
	row("numerics", "%s", i.Numerics)
	row("memory", "%s per session at --ctx %d, %s shared", formatBytes(i.SessionBytes), i.Context, formatBytes(i.ScratchBytes))
	return t.Flush()
}
