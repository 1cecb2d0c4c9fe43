// Package run executes scenarios: it starts real servers, does to them what the
// file says, asks for answers, and judges how the server came out.
//
// The package promises: every wait has a deadline; no process and no goroutine
// outlives Run; a fault that was armed and never fired makes a repetition
// inconclusive, never a pass; every answer is compared with that of a server
// without a cache. It sees a server only through its command line, its HTTP
// interface, its log and its files.
package run

import (
	"context"
	"time"

	"ds4/reports"
	"ds4/scenarios"
)

// Options says what to run and against what.
type Options struct {
	// Server is the path of the server's binary. Target is the URL of a server
	// that already runs, instead: scenarios that need a process are skipped.
	Server string
	Target string

	// Foreign is a server that is not ds4, instead of Server, for the scenarios
	// that bring none of their own. API is how a target is asked.
	Foreign *scenarios.Foreign
	API     string

	Scenarios []*scenarios.Scenario
	Repeat    int    // repetitions of each scenario; 0 means what its file says
	Seed      uint64 // of the first repetition
	// Only says which repetitions are run; nil means all. The others keep their
	// numbers and seeds for somebody else.
	Only func(scenario string, repetition int) bool

	// For is how long to go on, shared out equally: scenarios are repeated, and those
	// that have a repeat with a time are stretched. Each runs at least once.
	For time.Duration

	// growthPatience of tests; 0 means the constant of the same name.
	growthPatience time.Duration

	// WorkDir is where each repetition gets a directory of its own, which is
	// removed afterwards, unless KeepWork is set or the repetition failed and
	// KeepFailed is. Empty means the system's temporary directory.
	WorkDir    string
	KeepWork   bool
	KeepFailed bool

	// FailFast ends a repetition at its first failure, without the checks that
	// follow the steps.
	FailFast bool

	// ServerArgs are added to every start of a server under test (never to the
	// control), ServerEnv to its environment.
	ServerArgs []string
	ServerEnv  []string

	// RerunPrefix is the command before the scenario's name in rerun lines,
	// such as "ds4bench run". Scenario name, --seed and --repeat 1 are added.
	RerunPrefix string

	// Memory runs lane memory. Without it such scenarios are skipped.
	Memory func(ctx context.Context, s *scenarios.Scenario, seed uint64) reports.Result
	// OtherModel writes a model that differs from the embedded one; kind is a word
	// of scenarios.ModelKinds. Without it, swap-model is inconclusive.
	OtherModel func(path, kind string, seed uint64) error

	// Explicit says that the scenarios were asked for by name or lane. One that
	// this host does not allow is then inconclusive; otherwise it is skipped.
	Explicit bool

	// Controls remembers the right answers beyond this call; nil forgets them.
	Controls *Controls

	// Progress is called often, from one goroutine at a time.
	Progress func(Progress)
	// OnResult is called once per repetition, in order. An error ends the run.
	OnResult func(*reports.Result) error
}

// Progress says where the run is.
type Progress struct {
	Scenario   string
	Repetition int // from 1
	Index      int // of the scenario, from 0
	Total      int // scenarios
	Step       string
	Elapsed    time.Duration // of the repetition
	PrefillTPS float64       // of the chat that is running or ran last; 0 if unknown
}

// Summary counts verdicts.
type Summary struct {
	Passed, Failed, Inconclusive, Skipped int
	Results                               []reports.Result
}
