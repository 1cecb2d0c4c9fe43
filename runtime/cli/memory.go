package cli

import (
	"context"
	"fmt"
	"math"
	"sort"
	"time"

	"ds4/metal/cpu"
	"ds4/runtime/config"
	"ds4/runtime/engine"
	"ds4/runtime/model"
)

// memoryReserve is left to everything that is no session: the Go heap, requests,
// and the segments that wait for the disk.
const memoryReserve = 128 << 20

// plan says how many sessions of which size a process will hold.
type memoryPlan struct {
	context   int
	session   uint64 // bytes of one
	scratch   uint64 // bytes that all share
	packed    uint64 // bytes of packed weights, 0 if they are used as the file has them
	packedK   bool   // K-quants are among them
	sessions  int
	available uint64
	source    string // where the available bytes come from
}

// String is the line that the server logs at start.
func (p memoryPlan) String() string {
	return fmt.Sprintf("context memory ctx=%d session=%s scratch=%s packed=%s sessions=%d total=%s available=%s (%s)",
		p.context, formatBytes(p.session), formatBytes(p.scratch), formatBytes(p.packed), p.sessions,
		formatBytes(p.scratch+p.packed+uint64(p.sessions)*p.session), formatBytes(p.available), p.source)
}

func engineOptions(m *config.Model) engine.Options {
	return engine.Options{ContextTokens: m.Context, ChunkTokens: m.PrefillChunk, Numerics: m.EffectiveNumerics()}
}

// options are engineOptions with the plan's choice of packing.
func (p memoryPlan) options(m *config.Model) engine.Options {
	opt := engineOptions(m)
	opt.Pack, opt.PackK = p.packed > 0, p.packedK
	return opt
}

// planMemory decides how many sessions fit, at most want. A context of which not
// even one session fits is an error that says what would fit: better now than
// killed by the kernel in the middle of an answer. Weights count if they are
// packed. Else they are mapped, and the kernel can drop their pages.
func planMemory(mod *model.Model, m *config.Model, want int, available uint64, source string) (memoryPlan, error) {
	opt := engineOptions(m)
	p := memoryPlan{context: m.Context, available: available, source: source}
	var err error
	if p.session, p.scratch, err = engine.EstimateBytes(mod, opt); err != nil {
		return p, &usageError{err: err}
	}
	p.sessions = min(want, fitting(p.session, p.scratch, available))
	p.pack(mod, opt, m.Pack, want)
	if p.sessions >= 1 {
		return p, nil
	}
	largest := sort.Search(m.Context, func(n int) bool {
		o := opt
		o.ContextTokens = n + 1
		session, scratch, err := engine.EstimateBytes(mod, o)
		return err != nil || fitting(session, scratch+p.packed, available) < 1
	})
	hint := "no context fits"
	if largest > 0 {
		hint = fmt.Sprintf("the largest context that fits is --ctx %d", largest)
	}
	return p, fmt.Errorf("--ctx %d does not fit: one session needs %s, all share %s, and %s are kept for what is no session, but %s are available (%s); %s",
		m.Context, formatBytes(p.session), formatBytes(p.scratch+p.packed), formatBytes(memoryReserve), formatBytes(available), source, hint)
}

// pack decides about packing: of everything, or of what is no K-quant, if that
// costs no session; of everything if the user says so.
func (p *memoryPlan) pack(mod *model.Model, opt engine.Options, mode string, want int) {
	if mode == config.PackOff {
		return
	}
	for _, k := range []bool{true, false} {
		opt.Pack, opt.PackK = true, k
		packed := engine.PackedBytes(mod, opt, cpu.PackedBytes)
		beside := min(want, fitting(p.session, p.scratch+packed, p.available))
		if mode == config.PackOn || beside > 0 && beside == p.sessions {
			p.packed, p.packedK, p.sessions = packed, k, beside
			return
		}
	}
}

// packingEvery is how often the log hears of packing, which takes seconds for a
// large model and goes unnoticed for a small one.
const packingEvery = 2 * time.Second

// packingLog reports packing, and ends it when the start is given up.
func packingLog(ctx context.Context, log logFunc, now func() time.Time) func(done, total uint64) error {
	last := now()
	return func(done, total uint64) error {
		if t := now(); t.Sub(last) >= packingEvery {
			last = t
			log("packing weights %d %% (%s of %s)", 100*done/max(total, 1), formatBytes(done), formatBytes(total))
		}
		return ctx.Err()
	}
}

// fitting is the number of sessions that fit into the available bytes.
func fitting(session, scratch, available uint64) int {
	fixed := scratch + memoryReserve
	if available <= fixed || session == 0 {
		return 0
	}
	return int(min((available-fixed)/session, math.MaxInt32))
}

// memoryBudget is what sessions may take: --memory-mb, or what the system has.
func memoryBudget(m *config.Model) (available uint64, source string) {
	if m.MemoryMB > 0 {
		return uint64(m.MemoryMB)<<20 + memoryReserve, "--memory-mb, and what is kept"
	}
	return availableMemory()
}

// formatBytes prints a size with a binary unit.
func formatBytes(n uint64) string {
	const unit = 1024
	switch {
	case n < unit:
		return fmt.Sprintf("%d B", n)
	case n < unit*unit:
		return fmt.Sprintf("%.1f KiB", float64(n)/unit)
	case n < unit*unit*unit:
		return fmt.Sprintf("%.1f MiB", float64(n)/(unit*unit))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(unit*unit*unit))
}
