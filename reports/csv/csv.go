// Package csv writes results as one tidy table for spreadsheets and data frames:
// a line for every sample of every metric, with the columns of Header, quoted as
// RFC 4180 says.
//
// It promises that every result has at least one line, so that counts of verdicts
// come out right: a result without a metric has one with the last columns empty.
// Values are written as they are, without the quotes some spreadsheets want
// before a leading "="; nothing in the columns comes from a model's answer.
package csv

import (
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"ds4/reports"
)

// Header names the columns. context_tokens is set for speed only, workload and
// concurrency for serve-speed only, side where two servers were measured in turns;
// sample counts from 0 within a metric.
func Header() []string {
	return []string{
		"scenario", "lane", "repetition", "seed", "verdict", "outcome", "duration_ms",
		"context_tokens", "metric", "unit", "sample", "value", "side", "workload", "concurrency",
	}
}

// Write writes the header and the lines of all results.
func Write(w io.Writer, results []reports.Result) error {
	out := csv.NewWriter(w)
	if err := out.Write(Header()); err != nil {
		return fmt.Errorf("csv: %w", err)
	}
	for _, r := range results {
		for _, line := range lines(r) {
			if err := out.Write(line); err != nil {
				return fmt.Errorf("csv: %w", err)
			}
		}
	}
	out.Flush()
	if err := out.Error(); err != nil {
		return fmt.Errorf("csv: %w", err)
	}
	return nil
}

func lines(r reports.Result) [][]string {
	workload, concurrency := "", ""
	if r.Load != nil {
		workload, concurrency = r.Load.Workload, strconv.Itoa(r.Load.Concurrency)
	}
	line := func(context, metric, unit, sample, value string) []string {
		return []string{
			r.Scenario, r.Lane, strconv.Itoa(r.Repetition), strconv.FormatUint(r.Seed, 10),
			string(r.Verdict), r.Outcome, number(r.DurationMS), context, metric, unit, sample, value, r.Side, workload, concurrency,
		}
	}
	var out [][]string
	for _, name := range r.MetricNames() {
		m := r.Metrics[name]
		for i, v := range m.Samples {
			out = append(out, line("", name, m.Unit, strconv.Itoa(i), number(v)))
		}
	}
	for _, f := range r.Frontiers {
		for _, v := range []struct {
			metric string
			value  float64
		}{{reports.MetricPrefillTPS, f.PrefillTPS}, {reports.MetricDecodeTPS, f.DecodeTPS}} {
			if v.value == 0 {
				continue // not measured
			}
			out = append(out, line(strconv.Itoa(f.ContextTokens), v.metric, reports.Unit(v.metric), "0", number(v.value)))
		}
	}
	if len(out) == 0 {
		out = append(out, line("", "", "", "", ""))
	}
	return out
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }
