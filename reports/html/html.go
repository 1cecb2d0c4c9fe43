// Package html writes results as one page for people: verdicts, the timeline of
// each recovery, throughput curves with their intervals, a comparison with a
// baseline, and everything needed to doubt the figures.
//
// It promises a page that needs nothing but itself: no script at all, no font,
// image or style from elsewhere, and a policy in the page that forbids them. It is
// read in light, dark and print, and by keyboard. Everything in a results file is
// untrusted: it is escaped, shortened and counted before it reaches the page, and
// what was left out is said.
package html

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"ds4/reports"
	"ds4/reports/stat"
)

// Limits of a page. A results file may hold a million records; a browser is no
// tool to read them.
const (
	maxScenarios = 2000 // rows of the verdict table
	maxProblems  = 300  // repetitions shown with all their failures
	maxTimelines = 300  // drawings
	maxEvents    = 400  // rows of the table below a drawing
	maxWarnings  = 300
	maxRuns      = 50 // blocks of facts
)

//go:embed page.html.tmpl
var pageText string

//go:embed style.css
var style string

var page = template.Must(template.New("page").Parse(pageText))

// Options says what a page shows besides the results.
type Options struct {
	Baseline   []reports.Log       // whose curves are drawn beside the results
	Comparison *reports.Comparison // nil: nothing is compared
}

// Write writes one page about all runs.
func Write(w io.Writer, runs []reports.Log, opt Options) error {
	v, err := newView(runs, opt)
	if err != nil {
		return fmt.Errorf("html: %w", err)
	}
	if err := page.Execute(w, v); err != nil {
		return fmt.Errorf("html: %w", err)
	}
	return nil
}

// view is what the template shows.
type view struct {
	Style     template.CSS
	Verdict   reports.Verdict
	Summary   string
	About     string
	When      string
	Counts    []count
	Scenarios []scenarioRow
	Problems  []problem
	Timelines []timelineView
	Speed     *speedView
	Load      *loadView
	Compare   *compareView
	Warnings  []string
	Runs      []runFacts
	LeftOut   []string
}

type count struct {
	Verdict reports.Verdict
	N       int
}

func newView(runs []reports.Log, opt Options) (*view, error) {
	var verdicts, speed, loads, all []reports.Result
	for _, run := range runs {
		for _, r := range run.Results {
			all = append(all, r)
			switch {
			case len(r.Frontiers) > 0:
				speed = append(speed, r)
			case r.Load != nil:
				loads = append(loads, r)
			default:
				verdicts = append(verdicts, r)
			}
		}
	}
	v := &view{Style: template.CSS(style), Verdict: reports.Worst(all)} //nolint:gosec // our own file
	v.head(runs, all)
	v.scenarios(verdicts)
	v.problems(all)
	v.timelines(verdicts)
	if len(speed) > 0 {
		s, err := newSpeed(runs, opt)
		if err != nil {
			return nil, err
		}
		v.Speed = s
	}
	if len(loads) > 0 {
		v.loads(loads)
	}
	v.compare(opt.Comparison)
	v.warnings(all)
	v.facts(runs)
	return v, nil
}

// head fills the lines at the top.
func (v *view) head(runs []reports.Log, all []reports.Result) {
	n := reports.Count(all)
	for _, verdict := range reports.Verdicts() {
		if n[verdict] > 0 {
			v.Counts = append(v.Counts, count{verdict, n[verdict]})
		}
	}
	switch {
	case len(all) == 0:
		v.Summary = "No results"
	case n[reports.Fail] > 0:
		v.Summary = fmt.Sprintf("%d of %s failed", n[reports.Fail], plural(len(all), "repetition"))
	case n[reports.Inconclusive] > 0:
		v.Summary = fmt.Sprintf("Nothing failed, %d of %s proved nothing", n[reports.Inconclusive], plural(len(all), "repetition"))
	case ended(runs) != "":
		v.Verdict, v.Summary = reports.Inconclusive, "Nothing failed, but a run "+ended(runs)
	case n[reports.Pass] == 0:
		v.Summary = "Everything was skipped"
	case n[reports.Skipped] > 0:
		v.Summary = fmt.Sprintf("All that ran passed, %d skipped", n[reports.Skipped])
	case len(all) == 1:
		v.Summary = "The one repetition passed"
	default:
		v.Summary = fmt.Sprintf("All %s passed", plural(len(all), "repetition"))
	}
	if len(runs) == 0 {
		return
	}
	first := runs[0].Run
	v.About = cell(strings.Join(present(serverName(first.Server), first.Server.Model, first.Host.Name, first.Host.CPU), " · "))
	if !first.Start.IsZero() {
		v.When = first.Start.UTC().Format("2 January 2006, 15:04 UTC")
	}
	if len(runs) > 1 {
		v.When += fmt.Sprintf(" and %s more", plural(len(runs)-1, "run"))
	}
}

// ended says how the first run that did not come to its end ended, or "".
func ended(runs []reports.Log) string {
	for i := range runs {
		if why := runs[i].Unfinished(); why != "" {
			return why
		}
	}
	return ""
}

func serverName(s reports.Server) string {
	return strings.Join(present("ds4", s.Version, clip(s.Commit, 12)), " ")
}

// present drops what is empty.
func present(words ...string) []string {
	return slices.DeleteFunc(words, func(s string) bool { return s == "" })
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%s %ss", number(float64(n)), word)
}

// leftOut says that a limit was met.
func (v *view) leftOut(n int, what string) {
	if n > 0 {
		v.LeftOut = append(v.LeftOut, fmt.Sprintf("%s are left out of this page; the results file has them.", plural(n, what)))
	}
}

// scenarioRow is a line of the verdict table.
type scenarioRow struct {
	ID, Title, Lane        string
	Origin                 string
	Verdict                reports.Verdict
	Anchor                 string
	Runs, Outcome          string
	Retries, Recovery      string
	Restored, Reprefilled  string
	Prefill                string
	TimeMS                 string
	Repetitions, Succeeded int
}

func (v *view) scenarios(results []reports.Result) {
	groups := reports.GroupByScenario(results)
	shown := groups[:min(len(groups), maxScenarios)]
	v.leftOut(len(groups)-len(shown), "scenario")
	for i, g := range shown {
		first := g.Results[0]
		row := scenarioRow{
			ID: cell(g.Scenario), Title: cell(first.Title), Lane: cell(first.Lane), Origin: cell(first.Origin), Verdict: g.Verdict(),
			Runs: runsOf(g), Outcome: outcomesOf(g), Recovery: median(g, reports.MetricRecovery), Restored: median(g, reports.MetricRestoredTokens),
			Reprefilled: median(g, reports.MetricReprefilledTokens), Prefill: median(g, reports.MetricPrefillTPS), Retries: dash,
		}
		if s, err := stat.Summarize(g.Samples(reports.MetricRetries)); err == nil {
			row.Retries = number(s.Max)
		}
		var ms []float64
		for _, r := range g.Results {
			if r.Verdict != reports.Skipped {
				ms = append(ms, r.DurationMS)
			}
			if len(r.Timeline) > 0 && i < maxTimelines {
				row.Anchor = anchor(i)
			}
		}
		row.TimeMS = dash
		if s, err := stat.Summarize(ms); err == nil {
			row.TimeMS = duration(s.Median)
		}
		v.Scenarios = append(v.Scenarios, row)
	}
}

// dash stands for a figure that does not exist; it is never a zero.
const dash = "–"

func anchor(i int) string { return fmt.Sprintf("timeline-%d", i+1) }

func cell(s string) string { return printable(clip(s, maxLabel)) }

func runsOf(g reports.Group) string {
	n := reports.Count(g.Results)
	all := len(g.Results) - n[reports.Skipped]
	if all == 0 {
		return dash
	}
	return fmt.Sprintf("%d/%d", n[reports.Pass], all)
}

func outcomesOf(g reports.Group) string {
	const most = 6
	var seen []string
	for _, r := range g.Results {
		if r.Outcome != "" && !slices.Contains(seen, r.Outcome) && len(seen) < most {
			seen = append(seen, r.Outcome)
		}
	}
	if len(seen) == 0 {
		return dash
	}
	return cell(strings.Join(seen, ", "))
}

func median(g reports.Group, metric string) string {
	s, err := stat.Summarize(g.Samples(metric))
	if err != nil {
		return dash
	}
	return number(s.Median)
}

// problem is a repetition that is no pass, with what a person needs to act on it.
type problem struct {
	Verdict  reports.Verdict
	Scenario string
	Title    string
	Which    string
	Reason   string
	Failures []string
	Checks   []reports.Check
	Faults   []reports.Fault
	WorkDir  string
	Rerun    string
}

func (v *view) problems(results []reports.Result) {
	for _, want := range []reports.Verdict{reports.Fail, reports.Inconclusive, reports.Skipped} {
		for _, r := range results {
			if r.Verdict == want {
				v.Problems = append(v.Problems, newProblem(&r))
			}
		}
	}
	shown := v.Problems[:min(len(v.Problems), maxProblems)]
	v.leftOut(len(v.Problems)-len(shown), "repetition")
	v.Problems = shown
}

func newProblem(r *reports.Result) problem {
	const most = 20 // failures, checks and faults of one repetition
	p := problem{
		Verdict: r.Verdict, Scenario: cell(r.Scenario), Title: cell(r.Title), Reason: printable(clip(r.Reason, maxBlock)),
		Which: fmt.Sprintf("repetition %d, seed %d", r.Repetition, r.Seed), WorkDir: cell(r.WorkDir), Rerun: printable(clip(r.Rerun, maxBlock)),
	}
	for _, text := range r.Failures[:min(len(r.Failures), most)] {
		p.Failures = append(p.Failures, printable(clip(text, maxBlock)))
	}
	for _, c := range r.Checks[:min(len(r.Checks), most)] {
		p.Checks = append(p.Checks, reports.Check{Name: cell(c.Name), OK: c.OK, Detail: printable(clip(c.Detail, maxBlock))})
	}
	for _, f := range r.Faults[:min(len(r.Faults), most)] {
		p.Faults = append(p.Faults, reports.Fault{Rule: cell(f.Rule), Armed: f.Armed, Fired: f.Fired})
	}
	return p
}

// timelineView is the drawing of one scenario's repetition.
type timelineView struct {
	ID, Scenario, Title string
	Verdict             reports.Verdict
	Outcome             string
	Open                bool
	Which               string
	Drawing             template.HTML
	Events              []eventRow
	More                int
	Cut                 bool
}

type eventRow struct{ At, Kind, Text, Took, Outcome string }

// openTimelines is how many timelines are unfolded from the start.
const openTimelines = 3

// timelines draws one repetition of each scenario: the first that is no pass, or
// the first. The others look alike, and are in the results file.
func (v *view) timelines(results []reports.Result) {
	left := 0
	for i, g := range reports.GroupByScenario(results) {
		r := telling(g)
		if r == nil {
			continue
		}
		if i >= maxTimelines {
			left++
			continue
		}
		t := timelineView{
			ID: anchor(i), Scenario: cell(g.Scenario), Title: cell(r.Title), Verdict: r.Verdict, Outcome: cell(r.Outcome),
			Which: fmt.Sprintf("repetition %d of %d, seed %d, %s", r.Repetition, len(g.Results), r.Seed, duration(r.DurationMS)),
			Open:  len(v.Timelines) < openTimelines || r.Verdict == reports.Fail,
		}
		t.Drawing, t.Cut = drawTimeline(r)
		for _, e := range r.Timeline[:min(len(r.Timeline), maxEvents)] {
			row := eventRow{At: duration(e.AtMS), Kind: cell(strings.ReplaceAll(e.Kind, "_", " ")), Text: cell(e.Text), Outcome: cell(e.Outcome)}
			if e.DurationMS > 0 {
				row.Took = duration(e.DurationMS)
			}
			t.Events = append(t.Events, row)
		}
		t.More = len(r.Timeline) - len(t.Events)
		v.Timelines = append(v.Timelines, t)
	}
	v.leftOut(left, "timeline")
}

func telling(g reports.Group) *reports.Result {
	var first *reports.Result
	for i := range g.Results {
		r := &g.Results[i]
		if len(r.Timeline) == 0 {
			continue
		}
		if r.Verdict != reports.Pass {
			return r
		}
		if first == nil {
			first = r
		}
	}
	return first
}

func (v *view) warnings(results []reports.Result) {
	n := 0
	for _, r := range results {
		for _, text := range r.Warnings {
			if n++; n <= maxWarnings {
				v.Warnings = append(v.Warnings, fmt.Sprintf("%s #%d: %s", cell(r.Scenario), r.Repetition, printable(clip(text, maxBlock))))
			}
		}
	}
	v.leftOut(n-min(n, maxWarnings), "warning")
}

// fact is a name with a value.
type fact struct{ Name, Value string }

// runFacts is what a run says about itself.
type runFacts struct {
	Title string
	List  []fact
}

func (v *view) facts(runs []reports.Log) {
	for _, log := range runs[:min(len(runs), maxRuns)] {
		v.Runs = append(v.Runs, factsOf(log))
	}
	v.leftOut(len(runs)-len(v.Runs), "description of a run")
}

func factsOf(log reports.Log) runFacts {
	run := log.Run
	facts := runFacts{Title: cell("ds4bench " + run.Command)}
	add := func(name string, values ...string) {
		if text := strings.Join(present(values...), " "); text != "" {
			facts.List = append(facts.List, fact{name, printable(clip(text, maxBlock))})
		}
	}
	if !run.Start.IsZero() {
		add("started", run.Start.UTC().Format(time.RFC3339))
	}
	switch end := log.End; {
	case end == nil:
		add("ended", "no: it was killed")
	case end.Interrupted:
		add("ended", "interrupted after "+duration(end.DurationMS))
	default:
		add("took", duration(end.DurationMS))
	}
	add("server", serverName(run.Server))
	add("binary", run.Server.Path)
	add("target", run.Server.Target)
	add("model", run.Server.Model)
	add("model identity", run.Server.Identity)
	add("kernel set", run.Server.KernelSet)
	add("server flags", strings.Join(run.Server.Args, " "))
	add("host", run.Host.Name)
	add("system", strings.Trim(run.Host.OS+"/"+run.Host.Arch, "/"), run.Host.Kernel)
	add("processor", run.Host.CPU)
	if run.Host.Cores > 0 {
		add("cores", number(float64(run.Host.Cores)))
	}
	if run.Host.MemoryBytes > 0 {
		add("memory", size(run.Host.MemoryBytes))
	}
	add("features", strings.Join(run.Host.CPUFeatures, " "))
	add("seed", fmt.Sprint(run.Seed))
	dirty := ""
	if run.Build.Dirty {
		dirty = "(with changes)"
	}
	add("ds4bench", run.Build.Version, clip(run.Build.Commit, 12), dirty, run.Build.Go)
	add("command line", strings.Join(run.Args, " "))
	return facts
}
