package config

import (
	"math"

	"ds4/runtime/model"
)

// Defaults and limits of the model settings.
const (
	defaultContext = 32768
	maxContext     = 1 << 24
	defaultChunk   = 512
	maxChunk       = 8192 // the engine's limit
	maxThreads     = 1024
	maxSpaceMB     = math.MaxInt64 >> 20 // as bytes it must fit in an int64
)

// Model says which model runs and how.
type Model struct {
	Path         string // GGUF file; empty: the embedded model
	Context      int    // tokens per session
	Threads      int    // 0: all cores
	PrefillChunk int    // tokens per prefill step
	Numerics     model.Numerics
	Quality      bool // --quality: no 8-bit activations
	Backend      string
	Chdir        string // before anything is opened
	WarmWeights  bool
	MemoryMB     int    // 0: what the system says is available
	Pack         string // one of PackModes
}

// Whether weights are copied into the layout that multiplies fastest.
const (
	PackAuto = "auto" // if no session is lost by it
	PackOn   = "on"
	PackOff  = "off"
)

// PackModes are the values of --pack.
var PackModes = []string{PackAuto, PackOn, PackOff}

// Backends are the drivers that the original knows. Which of them this program
// contains is the command's business.
var Backends = []string{"cpu", "metal", "cuda"}

// AddModelIdentity registers the settings of Model that stored state depends on.
func (s *Set) AddModelIdentity(m *Model) {
	m.Backend = "cpu"
	s.Path(&m.Path, "model", "m", "GGUF `FILE` that the cache is compared with; without it what the last server said of its model")
	s.addNumerics(m)
}

func (s *Set) addNumerics(m *Model) {
	Var(s, &m.Numerics, "numerics", "", model.Production, model.ParseNumerics, model.Numerics.String,
		"`MODE`: production, reference (float32), or a list of kvFP8,kvF16,indexerFP4,actInt8")
	s.Bool(&m.Quality, "quality", "", false, "prefer exact kernels: production without actInt8")
}

// AddModel registers the settings of Model.
func (s *Set) AddModel(m *Model) {
	s.Path(&m.Path, "model", "m", "GGUF `FILE` to load; without it the embedded ds4-tiny")
	s.Int(&m.Context, "ctx", "c", defaultContext, 2, maxContext, "context of a session, `N` tokens")
	s.Int(&m.Threads, "threads", "t", 0, 0, maxThreads, "worker threads, `N`; 0 = one per core")
	s.Int(&m.PrefillChunk, "prefill-chunk", "", defaultChunk, 1, maxChunk, "`N` prompt tokens are evaluated per step")
	s.addNumerics(m)
	backend := s.Enum(&m.Backend, "backend", "", "cpu", Backends, "device driver, `NAME`: cpu is what this program has")
	for _, name := range Backends {
		s.Alias(name, backend, name, "the same as --backend "+name).hidden = true
	}
	s.Path(&m.Chdir, "chdir", "", "change to `DIR` before anything is opened")
	s.Bool(&m.WarmWeights, "warm-weights", "", false, "read all weights once at start")
	s.Enum(&m.Pack, "pack", "", PackAuto, PackModes, "copy weights into the layout that multiplies fastest, `WHEN`: auto (if no session is lost by it), on, off")
	s.Int(&m.MemoryMB, "memory-mb", "", 0, 0, maxSpaceMB, "memory for sessions, `N` MiB; 0 = what the system has available")
}

// EffectiveNumerics combines --numerics and --quality.
func (m *Model) EffectiveNumerics() model.Numerics {
	n := m.Numerics
	if m.Quality {
		n.ActInt8 = false
	}
	return n
}
