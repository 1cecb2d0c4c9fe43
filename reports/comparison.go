package reports

// Comparison is two measurements of the same work set side by side: A the
// baseline, B what is judged. reports/stat computes it, writers show it.
type Comparison struct {
	A Subject `json:"a"`
	B Subject `json:"b"`
	// Paired says that both were measured in turns in one run: each sample of B
	// is judged against the one of A beside it, so that a machine that grows
	// slower with time moves neither.
	Paired bool `json:"paired"`
	// Confidence is that of every interval, such as 0.95.
	Confidence float64 `json:"confidence"`
	// MarginPercent is the change up to which two rates or times are the same.
	MarginPercent float64 `json:"margin_percent"`
	// MaxRegressionPercent is the change for the worse that is accepted.
	MaxRegressionPercent float64         `json:"max_regression_percent"`
	Rows                 []ComparisonRow `json:"rows"`
	// Warnings are doubts about the comparison as a whole.
	Warnings []string `json:"warnings,omitempty"`
}

// Subject is one side of a comparison.
type Subject struct {
	Name   string `json:"name"` // file, command line or URL
	Build  Build  `json:"build"`
	Host   Host   `json:"host"`
	Server Server `json:"server"`
}

// ComparisonRow compares one metric under one set of conditions.
type ComparisonRow struct {
	Scenario       string `json:"scenario"`
	Workload       string `json:"workload,omitempty"`        // serve-speed only
	Concurrency    int    `json:"concurrency,omitempty"`     // serve-speed only
	FrontierTokens int    `json:"frontier_tokens,omitempty"` // speed only, tokens of context
	Metric         string `json:"metric"`
	Unit           string `json:"unit"` // see Unit; of medians, intervals and samples

	A Estimate `json:"a"`
	B Estimate `json:"b"`

	// Change is B against A in percent of A, with its interval: +10 is a tenth
	// more, whether that is good or bad. Without an interval there are too few
	// samples, and the verdict is CannotTell.
	ChangePercent   float64 `json:"change_percent"`
	ChangeLoPercent float64 `json:"change_lo_percent"`
	ChangeHiPercent float64 `json:"change_hi_percent"`
	HasInterval     bool    `json:"has_interval"`
	// P is the two-sided p of the Mann-Whitney U test; without one HasP is false.
	P    float64 `json:"p"`
	HasP bool    `json:"has_p"`

	Verdict    ChangeVerdict `json:"verdict"`
	Regression Regression    `json:"regression"`
	Warnings   []string      `json:"warnings,omitempty"`
}

// Estimate is one side of a row: a sample is the median of one repetition.
type Estimate struct {
	Samples     []float64 `json:"samples"` // in the order of the repetitions
	Median      float64   `json:"median"`
	Lo          float64   `json:"lo"` // interval of the median, if there is one
	Hi          float64   `json:"hi"`
	HasInterval bool      `json:"has_interval"`
}

// ChangeVerdict says how B compares with A in one metric.
type ChangeVerdict string

// The verdicts of a comparison. Faster means better: more tokens per second,
// fewer milliseconds. Same needs evidence, an interval within the margin; where
// there is none for either, nobody can tell. Different is for what is counted,
// which must be equal.
const (
	Faster     ChangeVerdict = "faster"
	Slower     ChangeVerdict = "slower"
	Same       ChangeVerdict = "same"
	Different  ChangeVerdict = "different"
	CannotTell ChangeVerdict = "cannot tell"
)

// Regression says whether B is worse than A by more than is accepted.
type Regression string

// What is known about a regression. Possible means that the interval reaches
// beyond what is accepted and that the samples cannot rule it out.
const (
	NoRegression       Regression = "no"
	PossibleRegression Regression = "possible"
	ProvenRegression   Regression = "proven"
)

// Direction says which way a metric is better.
type Direction int

// The directions.
const (
	MustBeEqual    Direction = iota // counts: neither
	HigherIsBetter                  // rates and shares
	LowerIsBetter                   // times
)

// Better returns the direction of a unit.
func Better(unit string) Direction {
	switch {
	case Exact(unit):
		return MustBeEqual
	case unit == "ms":
		return LowerIsBetter
	}
	return HigherIsBetter
}
