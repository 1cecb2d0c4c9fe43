package table

import (
	"fmt"
	"io"

	"ds4/reports"
	"ds4/reports/stat"
)

// ServeSpeed writes latencies and rates of serve-speed, one row for each workload
// and concurrency, and the warnings. A percentile without enough samples is a dash.
func ServeSpeed(w io.Writer, style Style, results []reports.Result) error {
	rows, warnings := stat.ServeRows(results)
	latency := []Column{{Name: "ms"}, {Name: "in flight", Number: true}, {Name: "requests", Number: true}}
	for _, name := range []string{"TTFT", "between tokens", "end to end"} {
		for _, p := range []string{"p50", "p95", "p99"} {
			latency = append(latency, Column{Name: name + " " + p, Number: true})
		}
	}
	rates := []Column{
		{Name: "per second"}, {Name: "in flight", Number: true}, {Name: "failed", Number: true},
		{Name: "requests", Number: true}, {Name: "goodput", Number: true}, {Name: "95 % interval", Number: true},
		{Name: "output tok", Number: true}, {Name: "95 % interval", Number: true}, {Name: "cached", Number: true},
	}
	var times, speeds [][]string
	for _, r := range rows {
		line := []string{r.Workload, fmt.Sprint(r.Concurrency), fmt.Sprint(r.Requests)}
		for _, l := range []stat.Latencies{r.TTFT, r.InterToken, r.EndToEnd} {
			line = append(line, percentile(l.P50, l.HasP50), percentile(l.P95, l.HasP95), percentile(l.P99, l.HasP99))
		}
		times = append(times, line)
		cached := none
		if r.HasCached {
			cached = fmt.Sprintf("%.0f %%", r.Cached.Median)
		}
		speeds = append(speeds, []string{
			r.Workload, fmt.Sprint(r.Concurrency), fmt.Sprint(r.Failed), number(r.Requested.Median),
			percentile(r.Goodput.Median, r.HasGoodput), interval(r.Goodput), number(r.Output.Median), interval(r.Output), cached,
		})
	}
	if err := Write(w, style, latency, times); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	if err := Write(w, style, rates, speeds); err != nil {
		return err
	}
	return serveNotes(w, results, warnings)
}

func serveNotes(w io.Writer, results []reports.Result, warnings []string) error {
	for _, r := range results {
		if r.Load == nil {
			continue
		}
		if _, err := fmt.Fprintf(w, "\ngoodput: requests per second with %s\n", objective(r.Load.Objective)); err != nil {
			return err
		}
		break
	}
	for _, text := range warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", Printable(text)); err != nil {
			return err
		}
	}
	return nil
}

func objective(o reports.Objective) string {
	text := ""
	for _, b := range []struct {
		what string
		ms   float64
	}{{"the first token", o.TTFTMS}, {"each further token, on average,", o.ITLMS}, {"the end", o.EndToEndMS}} {
		if b.ms == 0 {
			continue
		}
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%s within %g ms", b.what, b.ms)
	}
	if text == "" {
		return "a whole answer"
	}
	return text
}

func percentile(v float64, has bool) string {
	if !has {
		return none
	}
	return number(v)
}
