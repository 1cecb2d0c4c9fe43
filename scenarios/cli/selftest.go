package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"ds4/reports/table"
	"ds4/scenarios/run"
	"ds4/scenarios/selftest"
)

func newSelftest() *cobra.Command {
	var pick selection
	var srv serverFlags
	var format string
	cmd := &cobra.Command{
		Use:   "selftest [PATH or ID ...]",
		Short: "Prove that scenarios notice a broken server",
		Long: `Runs scenarios against servers that are broken on purpose, one safeguard switched
off at a time (` + strings.Join(selftest.Switches(), ", ") + `), and
requires each to fail. A scenario that passes although what it tests is off is
worthless. Only scenarios that name such switches, under catches, are run.

Exit code 0 means that every broken server was caught.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			style, err := tableStyle(cmd, format)
			if err != nil {
				return err
			}
			if srv.target != "" {
				return usagef(cmd, "a server that runs already cannot be broken: selftest needs --server")
			}
			pick.args = args
			list, err := pick.load(cmd)
			if err != nil {
				return err
			}
			found, err := srv.resolve(cmd.Context(), cmd)
			if err != nil {
				return err
			}
			defer found.cleanup()
			return prove(cmd, style, found, list)
		},
	}
	pick.addFlags(cmd)
	srv.addFlags(cmd)
	cmd.Flags().StringVar(&format, "format", formatText, "of the table at the end: text or markdown")
	return cmd
}

// prove runs the proofs and prints one row for each.
func prove(cmd *cobra.Command, style table.Style, srv server, list []chosen) error {
	p := newProgress(cmd.ErrOrStderr())
	opt := run.Options{Server: srv.path, Seed: 1, Progress: p.at, OtherModel: selftest.OtherModel}
	for _, c := range list {
		opt.Scenarios = append(opt.Scenarios, c.scenario)
	}
	var rows [][]string
	err := selftest.Prove(cmd.Context(), opt, func(proof selftest.Proof) {
		caught, why := "caught", proof.Result.Reason
		if !proof.Caught {
			caught = "MISSED"
		}
		if len(proof.Result.Failures) > 0 {
			why = proof.Result.Failures[0]
		}
		p.say("%-7s %s with %s", caught, proof.Scenario, proof.Switch)
		rows = append(rows, []string{proof.Scenario, proof.Switch, caught, string(proof.Result.Verdict), why})
	})
	p.clear()
	columns := []table.Column{{Name: "scenario"}, {Name: "switched off"}, {Name: "proof"}, {Name: "verdict"}, {Name: "because"}}
	if len(rows) > 0 {
		if err := table.Write(cmd.OutOrStdout(), style, columns, rows); err != nil {
			return infrastructure(err)
		}
	}
	switch {
	case cmd.Context().Err() != nil:
		return infrastructure(errors.New("stopped early"))
	case errors.Is(err, selftest.ErrMissed):
		return &exitError{ExitFail, err}
	case err != nil:
		return infrastructure(err)
	case len(rows) == 0:
		return infrastructure(fmt.Errorf("none of these scenarios names a switch under catches"))
	}
	return nil
}
