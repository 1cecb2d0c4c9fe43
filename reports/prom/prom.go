// Package prom writes results in the Prometheus text format, for the textfile
// collector of a node exporter: verdicts, checks and figures of the last run.
//
// It promises a text that any scraper takes whatever is in the results file, one
// sample per name and labels, and a bound on the number of series. Repetitions are
// joined: counts by verdict, medians with the ends of their intervals.
package prom

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"ds4/reports"
	"ds4/reports/stat"
)

// Limits on what a monitoring system gets from one file.
const (
	maxSeries = 20_000
	maxLabel  = 200 // bytes of a label's value
)

// Write writes the metrics of all runs together.
func Write(w io.Writer, runs []reports.Log) error {
	reg := prometheus.NewRegistry()
	c := &collector{w: reg, gauges: make(map[string]*prometheus.GaugeVec)}
	if err := c.collect(runs); err != nil {
		return fmt.Errorf("prom: %w", err)
	}
	families, err := reg.Gather()
	if err != nil {
		return fmt.Errorf("prom: %w", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return fmt.Errorf("prom: %w", err)
		}
	}
	return nil
}

type collector struct {
	w      *prometheus.Registry
	gauges map[string]*prometheus.GaugeVec
	series int
}

// set sets one sample; labels are name and value in turn.
func (c *collector) set(name, help string, value float64, labels ...string) error {
	if c.series++; c.series > maxSeries {
		return fmt.Errorf("more than %d series: %w", maxSeries, reports.ErrTooLarge)
	}
	var names, values []string
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, label(labels[i+1]))
	}
	g := c.gauges[name]
	if g == nil {
		g = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, names)
		if err := c.w.Register(g); err != nil {
			return err
		}
		c.gauges[name] = g
	}
	m, err := g.GetMetricWithLabelValues(values...)
	if err != nil {
		return err
	}
	m.Set(value)
	return nil
}

// label bounds a label's value and makes it UTF-8, which the format demands.
func label(s string) string {
	if len(s) > maxLabel {
		s = s[:maxLabel]
	}
	return string([]rune(s))
}

func (c *collector) collect(runs []reports.Log) error {
	var all []reports.Result
	var loads []reports.Result
	for _, log := range runs {
		for _, r := range log.Results {
			if r.Load != nil {
				loads = append(loads, r)
			} else {
				all = append(all, r)
			}
		}
		if err := c.run(log); err != nil {
			return err
		}
	}
	for _, g := range reports.GroupByScenario(all) {
		if err := c.scenario(g); err != nil {
			return err
		}
	}
	return errors.Join(c.speed(all), c.loads(loads))
}

// loads writes what serve-speed measured, by workload and concurrency.
func (c *collector) loads(results []reports.Result) error {
	type key struct {
		workload    string
		concurrency int
	}
	groups := make(map[key]*reports.Group)
	for _, r := range results {
		k := key{r.Load.Workload, r.Load.Concurrency}
		if groups[k] == nil {
			groups[k] = &reports.Group{Scenario: r.Scenario}
		}
		groups[k].Results = append(groups[k].Results, r)
	}
	for k, g := range groups {
		for _, name := range metricsOf(*g) {
			s, err := stat.Summarize(g.Samples(name))
			if err != nil {
				continue
			}
			if err := c.summary("ds4bench_load_value", "A measured quantity of a load: median, and the ends of its 95 % interval where there is one.", s,
				"workload", k.workload, "concurrency", strconv.Itoa(k.concurrency), "metric", name, "unit", reports.Unit(name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// metricsOf lists the metrics of a group.
func metricsOf(g reports.Group) []string {
	seen := make(map[string]bool)
	var names []string
	for _, r := range g.Results {
		for _, name := range r.MetricNames() {
			if !seen[name] {
				seen[name], names = true, append(names, name)
			}
		}
	}
	return names
}

// run says which run the figures are of, and when it was.
func (c *collector) run(log reports.Log) error {
	r := log.Run
	const info = "Constant 1: the run that the figures are of."
	if err := c.set("ds4bench_run_info", info, 1, "command", r.Command, "version", r.Build.Version, "server_version", r.Server.Version,
		"server_commit", r.Server.Commit, "model", r.Server.Model, "kernel_set", r.Server.KernelSet, "host", r.Host.Name); err != nil {
		return err
	}
	if !r.Start.IsZero() {
		if err := c.set("ds4bench_run_start_timestamp_seconds", "When the last run of the command began.", float64(r.Start.Unix()), "command", r.Command); err != nil {
			return err
		}
	}
	complete := 0.0
	if log.End != nil && !log.End.Interrupted {
		complete = 1
	}
	return c.set("ds4bench_run_complete", "1 if the last run of the command came to its end, 0 if it was killed or interrupted.", complete, "command", r.Command)
}

func (c *collector) scenario(g reports.Group) error {
	first := g.Results[0]
	n := reports.Count(g.Results)
	for _, v := range reports.Verdicts() {
		if err := c.set("ds4bench_repetitions", "Repetitions of a scenario by verdict.", float64(n[v]),
			"scenario", g.Scenario, "lane", first.Lane, "verdict", string(v)); err != nil {
			return err
		}
	}
	failed := make(map[string]int)
	for _, r := range g.Results {
		for _, check := range r.Checks {
			if !check.OK {
				failed[check.Name]++
			}
		}
	}
	for name, count := range failed {
		if err := c.set("ds4bench_failed_checks", "Repetitions in which a check failed.", float64(count), "scenario", g.Scenario, "check", name); err != nil {
			return err
		}
	}
	for _, name := range metricsOf(g) {
		s, err := stat.Summarize(g.Samples(name))
		if err != nil {
			continue
		}
		if err := c.summary("ds4bench_value", "A measured quantity of a scenario: median, and the ends of its 95 % interval where there is one.", s,
			"scenario", g.Scenario, "metric", name, "unit", reports.Unit(name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *collector) summary(name, help string, s stat.Summary, labels ...string) error {
	values := []struct {
		which string
		value float64
	}{{"median", s.Median}, {"low", s.Lo}, {"high", s.Hi}}
	if !s.HasInterval {
		values = values[:1]
	}
	for _, v := range values {
		if err := c.set(name, help, v.value, append(labels, "of", v.which)...); err != nil {
			return err
		}
	}
	return nil
}

// speed writes the throughput at each frontier.
func (c *collector) speed(results []reports.Result) error {
	rows, _, _, err := stat.Frontiers(results)
	if err != nil {
		return err
	}
	for _, r := range rows {
		context := strconv.Itoa(r.FrontierTokens)
		if err := c.summary("ds4bench_prefill_tokens_per_second", "Prefill throughput of the tokens up to a context.", r.Prefill, "context", context); err != nil {
			return err
		}
		if !r.HasDecode {
			continue
		}
		if err := c.summary("ds4bench_decode_tokens_per_second", "Decode throughput at a context.", r.Decode, "context", context); err != nil {
			return err
		}
	}
	return nil
}
