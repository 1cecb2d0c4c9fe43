package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ds4/reports"
	"ds4/reports/table"
	"ds4/scenarios/run"
	"ds4/scenarios/selftest"
)

// selftestFlags are those of ds4bench selftest.
type selftestFlags struct {
	pick     selection
	server   serverFlags
	switches []string
	parallel int
	format   string
}

const formatJSON = "json"

func newSelftest() *cobra.Command {
	var f selftestFlags
	cmd := &cobra.Command{
		Use:   "selftest [PATH or ID ...]",
		Short: "Prove that scenarios notice a broken server",
		Long: `Runs scenarios against servers that are broken on purpose, one safeguard taken
away at a time, and requires each to fail. A scenario that passes although what
it tests is off is worthless. Only scenarios that name such switches, under
catches, are run; those tagged soak if they are asked for. The switches are
` + wrapped(selftest.Switches()) + `
Exit codes: 0 every broken server was caught, as far as this host allows the
scenarios; 1 one was missed; 2 wrong usage; 3 nothing was proven.`,
		Example: `  ds4bench selftest
  ds4bench selftest flipped-bit
  ds4bench selftest --switch no-rename --switch no-sweep
  ds4bench selftest --format json`,
		RunE: func(cmd *cobra.Command, args []string) error { return f.execute(cmd, args) },
	}
	f.pick.addFlags(cmd)
	f.server.addPath(cmd)
	cmd.Flags().StringSliceVar(&f.switches, "switch", nil, "only these `switches`")
	cmd.Flags().IntVarP(&f.parallel, "parallel", "j", min(runtime.NumCPU(), defaultParallel), "how many broken servers are tested at a time")
	cmd.Flags().StringVar(&f.format, "format", formatText, "of the table at the end: text, markdown, or json for a line per proof")
	return cmd
}

// Bounds of --parallel. Every server uses all processors, but many of them wait
// most of the time, for retries and deadlines.
const (
	defaultParallel = 4
	maxParallel     = 64
)

// wrapped lists words in lines of a help text.
func wrapped(words []string) string {
	var b strings.Builder
	const width = 76
	line := " "
	for i, w := range words {
		if i < len(words)-1 {
			w += ","
		}
		if len(line)+1+len(w) > width {
			b.WriteString(line + "\n")
			line = " "
		}
		line += " " + w
	}
	return b.String() + line + "\n"
}

func (f *selftestFlags) execute(cmd *cobra.Command, args []string) error {
	style := table.Text
	if f.format != formatJSON {
		var err error
		if style, err = tableStyle(cmd, f.format); err != nil {
			return usagef(cmd, "--format %q is not one of: %s, %s, %s", f.format, formatText, formatMarkdown, formatJSON)
		}
	}
	if f.server.target != "" {
		return usagef(cmd, "a server that runs already cannot be broken: selftest needs --server")
	}
	if f.parallel < 1 || f.parallel > maxParallel {
		return usagef(cmd, "--parallel %d is not between 1 and %d", f.parallel, maxParallel)
	}
	for _, sw := range f.switches {
		if !slices.Contains(selftest.Switches(), sw) {
			return usagef(cmd, "--switch %q is not one of: %s", sw, strings.Join(selftest.Switches(), ", "))
		}
	}
	f.pick.args, f.pick.everyTag = args, len(f.switches) > 0
	list, err := f.pick.load(cmd)
	if err != nil {
		return err
	}
	found, err := f.server.resolve(cmd.Context(), cmd)
	if err != nil {
		return err
	}
	defer found.cleanup()
	return f.prove(cmd, style, found, list)
}

// prove runs the proofs and prints one row for each.
func (f *selftestFlags) prove(cmd *cobra.Command, style table.Style, srv server, list []chosen) error {
	p := newProgress(cmd.ErrOrStderr())
	opt := selftest.Options{
		Run:      run.Options{Server: srv.path, Seed: 1, OtherModel: selftest.OtherModel, Explicit: f.pick.explicit()},
		Switches: f.switches, Parallel: f.parallel,
	}
	if f.parallel == 1 {
		opt.Run.Progress = p.at
	}
	for _, c := range list {
		opt.Run.Scenarios = append(opt.Run.Scenarios, c.scenario)
	}
	var proofs []selftest.Proof
	opt.Each = func(proof selftest.Proof) {
		proofs = append(proofs, proof)
		p.say("%-7s %s with %s  %.1f s", caughtWord(proof), proof.Scenario, proof.Switch, proof.Result.DurationMS/1000)
	}
	start := time.Now()
	err := selftest.Prove(cmd.Context(), opt)
	p.clear()
	slices.SortFunc(proofs, func(a, b selftest.Proof) int {
		return cmp.Or(strings.Compare(a.Scenario, b.Scenario), strings.Compare(a.Switch, b.Switch))
	})
	if writeErr := f.write(cmd.OutOrStdout(), style, proofs, time.Since(start)); writeErr != nil {
		return infrastructure(writeErr)
	}
	switch {
	case cmd.Context().Err() != nil:
		return infrastructure(errors.New("stopped early"))
	case errors.Is(err, selftest.ErrMissed):
		return &exitError{ExitFail, err}
	case err != nil:
		return infrastructure(err)
	case len(proofs) == 0:
		return infrastructure(fmt.Errorf("none of these scenarios names such a switch under catches"))
	}
	return nil
}

func caughtWord(p selftest.Proof) string {
	switch {
	case p.Caught:
		return "caught"
	case p.Result.Verdict == reports.Skipped:
		return "skipped"
	}
	return "MISSED"
}

// because is the first failed assertion, or why nothing was proven.
func because(p selftest.Proof) string {
	if len(p.Result.Failures) > 0 {
		first, _, _ := strings.Cut(p.Result.Failures[0], "\n")
		return first
	}
	return p.Result.Reason
}

// proofLine is one line of --format json.
type proofLine struct {
	Scenario   string  `json:"scenario"`
	Switch     string  `json:"switch"`
	Caught     bool    `json:"caught"`
	Verdict    string  `json:"verdict"`
	Because    string  `json:"because,omitempty"`
	DurationMS float64 `json:"duration_ms"`
}

func (f *selftestFlags) write(w io.Writer, style table.Style, proofs []selftest.Proof, took time.Duration) error {
	if f.format == formatJSON {
		enc := json.NewEncoder(w)
		for _, p := range proofs {
			if err := enc.Encode(proofLine{p.Scenario, p.Switch, p.Caught, string(p.Result.Verdict), because(p), p.Result.DurationMS}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(proofs) == 0 {
		return nil
	}
	caught := 0
	var rows [][]string
	for _, p := range proofs {
		if p.Caught {
			caught++
		}
		rows = append(rows, []string{p.Scenario, p.Switch, caughtWord(p), fmt.Sprintf("%.1f", p.Result.DurationMS/1000), because(p)})
	}
	columns := []table.Column{{Name: "scenario"}, {Name: "switched off"}, {Name: "proof"}, {Name: "s", Number: true}, {Name: "because"}}
	if err := table.Write(w, style, columns, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d of %d broken servers were caught, in %.0f s\n", caught, len(proofs), took.Seconds())
	return err
}
