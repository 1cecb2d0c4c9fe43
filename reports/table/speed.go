package table

import (
	"fmt"
	"io"
	"slices"

	"ds4/reports"
	"ds4/reports/stat"
)

// Speed writes one row per frontier of the rounds, the fitted growth of prefill
// cost, and the warnings.
func Speed(w io.Writer, style Style, results []reports.Result) error {
	rows, fit, warnings, err := stat.Frontiers(results)
	if err != nil {
		return fmt.Errorf("table: %w", err)
	}
	columns := []Column{
		{Name: "context", Number: true}, {Name: "new tok", Number: true}, {Name: "samples", Number: true},
		{Name: "prefill t/s", Number: true}, {Name: "95 % interval", Number: true},
		{Name: "decode t/s", Number: true}, {Name: "95 % interval", Number: true},
	}
	ceiling := slices.ContainsFunc(rows, func(r stat.Frontier) bool { return r.HasCeiling })
	if ceiling {
		columns = append(columns, Column{Name: "of read ceiling", Number: true})
	}
	var cells [][]string
	for _, r := range rows {
		line := []string{
			fmt.Sprint(r.ContextTokens), fmt.Sprint(r.ContextTokens - r.FromTokens), fmt.Sprint(r.Prefill.N),
			number(r.Prefill.Median), interval(r.Prefill), none, none,
		}
		if r.HasDecode {
			line[5], line[6] = number(r.Decode.Median), interval(r.Decode)
		}
		if ceiling {
			line = append(line, percent(r))
		}
		cells = append(cells, line)
	}
	if err := Write(w, style, columns, cells); err != nil {
		return err
	}
	if slices.ContainsFunc(rows, func(r stat.Frontier) bool { return r.HasCeiling && r.Ceiling.Median > 100 }) {
		warnings = append(warnings, "above the read ceiling: what decode reads comes from caches, or memory was busy when its bandwidth was measured")
	}
	return speedNotes(w, fit, warnings)
}

// speedNotes writes the fit, its residuals and the warnings under the table.
func speedNotes(w io.Writer, fit *stat.Growth, warnings []string) error {
	if fit != nil {
		_, err := fmt.Fprintf(w, "\nprefill cost: %.4f ms per token, and %+.4f ms for each 1000 tokens of context before it (R² %.3f)\n",
			fit.BaseMS, fit.SlopeMS, fit.R2)
		if err != nil {
			return err
		}
		for _, r := range fit.Residuals {
			if _, err := fmt.Fprintf(w, "  at %d tokens %.4f ms, fitted %.4f, residual %+.1f %%\n",
				r.ContextTokens, r.MSPerToken, r.FittedMS, 100*r.Relative); err != nil {
				return err
			}
		}
	}
	for _, text := range warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", Printable(text)); err != nil {
			return err
		}
	}
	return nil
}

// percent is decode's part of what the memory allows.
func percent(r stat.Frontier) string {
	if !r.HasCeiling {
		return none
	}
	return fmt.Sprintf("%.0f %%", r.Ceiling.Median)
}

func interval(s stat.Summary) string {
	if !s.HasInterval {
		return none
	}
	return number(s.Lo) + " - " + number(s.Hi)
}
