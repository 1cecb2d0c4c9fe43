// Package selftest is the part of the harness that looks inside: it runs the
// store itself on a file system that crashes, makes models that differ in their
// weights only, and knows how to break a runtime on purpose, to prove that the
// scenarios notice.
//
// It is the only package of the harness that may import the runtime. Nothing
// here judges a server; package run does that from outside.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"ds4/reports"
	"ds4/runtime/config"
	"ds4/scenarios"
	"ds4/scenarios/run"
)

// Switches lists what can be broken in a server, by the words of its hidden flag
// --unsafe. Each takes one safeguard away.
func Switches() []string {
	return config.UnsafeSwitches
}

// ErrMissed is returned by Prove for a broken server that a scenario let pass.
var ErrMissed = errors.New("selftest: a scenario did not notice that the server is broken")

// Proof is one scenario run against one broken server.
type Proof struct {
	Scenario string
	Switch   string
	Caught   bool
	Result   reports.Result
}

// Prove runs each scenario that names switches under catches against a server
// that is broken in each of these ways, and requires it to fail. A scenario that
// passes although what it tests is switched off is worthless.
//
// Only a failed assertion counts as caught: a run that could not be made, or
// whose fault never fired, proves nothing. opt is used as for run.Run; its
// Scenarios may contain some that name no switch.
func Prove(ctx context.Context, opt run.Options, each func(Proof)) error {
	var missed []error
	list := opt.Scenarios
	base := opt
	if base.Controls == nil {
		base.Controls = run.NewControls()
	}
	for _, s := range list {
		for _, sw := range s.Catches {
			if !slices.Contains(Switches(), sw) {
				return fmt.Errorf("selftest: scenario %s names the unknown switch %q (known: %v)", s.ID, sw, Switches())
			}
			opt := base
			opt.Scenarios = []*scenarios.Scenario{s}
			opt.Repeat, opt.FailFast = 1, true
			opt.ServerArgs = append(slices.Clone(base.ServerArgs), "--unsafe", sw)
			opt.ServerEnv = append(slices.Clone(base.ServerEnv), "DS4_ENABLE_FAULTS=1")
			sum, err := run.Run(ctx, opt)
			if err != nil {
				return fmt.Errorf("selftest: %s with %s: %w", s.ID, sw, err)
			}
			p := Proof{Scenario: s.ID, Switch: sw, Caught: sum.Failed == 1, Result: sum.Results[0]}
			if each != nil {
				each(p)
			}
			if !p.Caught {
				missed = append(missed, fmt.Errorf("%w: %s under %s is %s %s", ErrMissed, s.ID, sw, p.Result.Verdict, p.Result.Reason))
			}
		}
	}
	return errors.Join(missed...)
}

// writeFile writes a model to a path, whole or not at all.
func writeFile(path string, data []byte) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
