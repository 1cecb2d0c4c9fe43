// Package junit writes results as JUnit XML, the dialect that CI systems read:
// one test suite per run, one test case per scenario and repetition.
//
// It promises that no verdict looks better than it is: a failed repetition is a
// failure, an inconclusive one an error, and only a skipped one is skipped. Every
// case carries its seed, its metrics and the line that runs it again.
package junit

import (
	"encoding/xml"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"ds4/reports"
)

type suites struct {
	XMLName  xml.Name `xml:"testsuites"`
	Name     string   `xml:"name,attr"`
	Tests    int      `xml:"tests,attr"`
	Failures int      `xml:"failures,attr"`
	Errors   int      `xml:"errors,attr"`
	Skipped  int      `xml:"skipped,attr"`
	Time     string   `xml:"time,attr"`
	Suites   []suite  `xml:"testsuite"`
}

type suite struct {
	Name       string     `xml:"name,attr"`
	Tests      int        `xml:"tests,attr"`
	Failures   int        `xml:"failures,attr"`
	Errors     int        `xml:"errors,attr"`
	Skipped    int        `xml:"skipped,attr"`
	Time       string     `xml:"time,attr"`
	Timestamp  string     `xml:"timestamp,attr,omitempty"`
	Hostname   string     `xml:"hostname,attr,omitempty"`
	Properties properties `xml:"properties"`
	Cases      []testCase `xml:"testcase"`
}

type testCase struct {
	Name       string     `xml:"name,attr"`
	Class      string     `xml:"classname,attr"`
	Time       string     `xml:"time,attr"`
	Properties properties `xml:"properties"`
	Failure    *problem   `xml:"failure"`
	Error      *problem   `xml:"error"`
	Skipped    *problem   `xml:"skipped"`
	Out        string     `xml:"system-out,omitempty"`
}

type properties struct {
	List []property `xml:"property"`
}

type property struct {
	Name  string `xml:"name,attr"`
	Value string `xml:"value,attr"`
}

type problem struct {
	Message string `xml:"message,attr,omitempty"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// Write writes the runs of a results file.
func Write(w io.Writer, runs []reports.Log) error {
	all := suites{Name: "ds4bench"}
	total := 0.0
	for _, run := range runs {
		s, ms := suiteOf(run)
		all.Suites = append(all.Suites, s)
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
		all.Skipped += s.Skipped
		total += ms
	}
	all.Time = seconds(total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return fmt.Errorf("junit: %w", err)
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return fmt.Errorf("junit: %w", err)
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return fmt.Errorf("junit: %w", err)
	}
	return nil
}

// suiteOf is a run. One that did not come to its end has an error for what is missing:
// a file in which nothing failed must not look like a pass.
func suiteOf(run reports.Log) (suite, float64) {
	counts := reports.Count(run.Results)
	s := suite{
		Name: "ds4bench " + run.Run.Command, Tests: len(run.Results), Failures: counts[reports.Fail],
		Errors: counts[reports.Inconclusive], Skipped: counts[reports.Skipped], Hostname: run.Run.Host.Name,
	}
	if !run.Run.Start.IsZero() {
		s.Timestamp = run.Run.Start.UTC().Format(time.RFC3339)
	}
	add := func(name, value string) {
		if value != "" {
			s.Properties.List = append(s.Properties.List, property{name, value})
		}
	}
	add("ds4bench.version", run.Run.Build.Version)
	add("ds4bench.commit", run.Run.Build.Commit)
	add("server.version", run.Run.Server.Version)
	add("server.commit", run.Run.Server.Commit)
	add("server.model", run.Run.Server.Model)
	add("server.identity", run.Run.Server.Identity)
	add("server.kernel_set", run.Run.Server.KernelSet)
	add("host.cpu", run.Run.Host.CPU)
	add("host.cores", strconv.Itoa(run.Run.Host.Cores))
	add("seed", strconv.FormatUint(run.Run.Seed, 10))
	total := 0.0
	for _, r := range run.Results {
		s.Cases = append(s.Cases, caseOf(r))
		total += r.DurationMS
	}
	if why := run.Unfinished(); why != "" {
		s.Tests++
		s.Errors++
		s.Cases = append(s.Cases, testCase{
			Name: "the whole run", Class: "ds4bench", Time: seconds(0),
			Error: &problem{Message: "the run " + why, Type: string(reports.Inconclusive)},
		})
	}
	s.Time = seconds(total)
	return s, total
}

// name tells the case apart from all others of the run.
func name(r reports.Result) string {
	text := r.Scenario
	if r.Side != "" {
		text += " " + r.Side
	}
	if r.Load != nil {
		text += fmt.Sprintf(" %s x%d", r.Load.Workload, r.Load.Concurrency)
	}
	return fmt.Sprintf("%s #%d", text, r.Repetition)
}

func caseOf(r reports.Result) testCase {
	c := testCase{
		Name:  name(r),
		Class: "ds4bench." + orWord(r.Lane, "run"),
		Time:  seconds(r.DurationMS),
	}
	add := func(name, value string) {
		if value != "" {
			c.Properties.List = append(c.Properties.List, property{name, value})
		}
	}
	add("seed", strconv.FormatUint(r.Seed, 10))
	add("origin", r.Origin)
	add("tags", strings.Join(r.Tags, ","))
	add("outcome", r.Outcome)
	add("rerun", r.Rerun)
	for _, name := range r.MetricNames() {
		m := r.Metrics[name]
		values := make([]string, len(m.Samples))
		for i, v := range m.Samples {
			values[i] = strconv.FormatFloat(v, 'g', -1, 64)
		}
		add("metric."+name, strings.Join(values, " "))
	}
	p := &problem{Message: r.Reason, Type: orWord(r.Outcome, string(r.Verdict)), Text: text(r)}
	if p.Message == "" && len(r.Failures) > 0 {
		p.Message, _, _ = strings.Cut(r.Failures[0], "\n")
	}
	switch r.Verdict {
	case reports.Fail:
		c.Failure = p
	case reports.Inconclusive:
		c.Error = p
	case reports.Skipped:
		c.Skipped = &problem{Message: r.Reason}
	default:
		if r.Rerun != "" {
			c.Out = "rerun: " + r.Rerun + "\n"
		}
	}
	return c
}

// text is the body of a failure: what failed, what never fired, how to repeat it.
func text(r reports.Result) string {
	var b strings.Builder
	for _, f := range r.Failures {
		fmt.Fprintln(&b, f)
	}
	for _, c := range r.Checks {
		if !c.OK {
			fmt.Fprintf(&b, "check %s: %s\n", c.Name, c.Detail)
		}
	}
	for _, f := range r.Faults {
		fmt.Fprintf(&b, "fault %s: armed %d, fired %d\n", f.Rule, f.Armed, f.Fired)
	}
	if r.WorkDir != "" {
		fmt.Fprintf(&b, "files: %s\n", r.WorkDir)
	}
	if r.Rerun != "" {
		fmt.Fprintf(&b, "rerun: %s\n", r.Rerun)
	}
	return b.String()
}

func orWord(s, word string) string {
	if s == "" {
		return word
	}
	return s
}

func seconds(ms float64) string { return strconv.FormatFloat(ms/1000, 'f', 3, 64) }
