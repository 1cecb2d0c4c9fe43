package html

import (
	"fmt"
	"html/template"
	"math"
	"slices"

	"ds4/reports/stat"
)

// Measures of a chart.
const (
	chartWidth  = 620.0
	chartHeight = 290.0
	maxSamples  = 4000 // dots of one chart
)

// series is one curve: what one server did at each frontier.
type series struct {
	name     string
	style    string // s0, s1, ... or baseline
	points   []chartPoint
	baseline bool
	fit      *stat.Growth
}

// chartPoint is a median with its interval, and the samples behind it.
type chartPoint struct {
	x       float64
	summary stat.Summary
	samples []float64
}

// frame is the plane of a chart.
type frame struct {
	s    *svg
	x, y scale
}

// newFrame draws axes with room for the values.
func newFrame(label, xName, yName string, x, y scale) frame {
	const left, right, top, bottom = 56.0, 16.0, 30.0, 44.0
	s := newSVG(chartWidth, chartHeight, "chart", label)
	x.at, x.until = left, chartWidth-right
	y.at, y.until = chartHeight-bottom, top
	f := frame{s, x, y}
	const xTicks, yTicks = 7, 5
	for _, t := range y.ticks(yTicks) {
		at := y.place(t)
		s.line(left, at, chartWidth-right, at, "rule")
		s.text(left-8, at+4, "end", "tick", number(t))
	}
	s.line(left, y.at, chartWidth-right, y.at, "axis")
	for _, t := range x.ticks(xTicks) {
		at := x.place(t)
		s.line(at, y.at, at, y.at+4, "axis")
		s.text(at, y.at+18, "middle", "tick", number(t))
	}
	s.text((left+chartWidth-right)/2, chartHeight-6, "middle", "name", xName)
	s.text(left-44, top-16, "start", "name", yName)
	return f
}

// room is a scale from 0 that holds every value with some air above.
func room(values ...float64) scale {
	most := 0.0
	for _, v := range values {
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			most = max(most, v)
		}
	}
	const air = 1.08
	return scale{from: 0, to: most * air}
}

// zoom is a scale that shows the differences of values that are close together,
// and begins at 0 where they are not.
func zoom(values ...float64) scale {
	s := room(values...)
	least := s.to
	for _, v := range values {
		least = min(least, v)
	}
	const far, below = 0.6, 0.9
	if least < far*s.to || least <= 0 {
		return s
	}
	step := roundStep(s.to * (1 - below))
	s.from = max(0, math.Floor(least*below/step)*step)
	return s
}

// drawCurves draws throughput against context: a line through the medians, their
// intervals as a band with whiskers, and every sample as a dot.
func drawCurves(label, xName, yName string, list []series) template.HTML {
	var xs, ys []float64
	for _, c := range list {
		for _, p := range c.points {
			xs = append(xs, p.x)
			ys = append(ys, p.summary.Max, p.summary.Min)
		}
	}
	y := zoom(ys...)
	if y.from > 0 {
		yName += " (the axis begins at " + number(y.from) + ")"
	}
	f := newFrame(label, xName, yName, room(xs...), y)
	dots := 0
	for _, c := range list {
		f.band(c)
	}
	for _, c := range list {
		if c.fit != nil {
			f.fit(c)
		}
	}
	for _, c := range list {
		var line []point
		for _, p := range c.points {
			at := point{f.x.place(p.x), f.y.place(p.summary.Median)}
			line = append(line, at)
			if p.summary.HasInterval {
				f.whisker(at.x, f.y.place(p.summary.Lo), f.y.place(p.summary.Hi), c.style)
			}
			for _, v := range p.samples {
				if dots++; !c.baseline && dots < maxSamples {
					f.s.circle(at.x, f.y.place(v), 1.6, "dot "+c.style, "")
				}
			}
		}
		f.s.path(line, false, "curve "+c.style, "")
		for i, p := range c.points {
			f.s.circle(line[i].x, line[i].y, 4, "median "+c.style, medianTitle(c.name, p))
		}
	}
	return f.s.end()
}

func medianTitle(name string, p chartPoint) string {
	text := fmt.Sprintf("%s, %s tokens of context: median %s of %d samples", name, number(p.x), number(p.summary.Median), p.summary.N)
	if p.summary.HasInterval {
		text += fmt.Sprintf(", 95 %% interval %s to %s", number(p.summary.Lo), number(p.summary.Hi))
	}
	return text
}

// band fills the area between the ends of the intervals.
func (f frame) band(c series) {
	var up, down []point
	for _, p := range c.points {
		if !p.summary.HasInterval {
			return
		}
		x := f.x.place(p.x)
		up, down = append(up, point{x, f.y.place(p.summary.Hi)}), append(down, point{x, f.y.place(p.summary.Lo)})
	}
	slices.Reverse(down)
	f.s.path(append(up, down...), true, "band "+c.style, "")
}

// fit draws the fitted growth as a dotted line.
func (f frame) fit(c series) {
	const steps = 48
	var line []point
	for i := range steps + 1 {
		x := f.x.from + (f.x.to-f.x.from)*float64(i)/steps
		if v := c.fit.TPS(int(x)); v > f.y.from && v <= f.y.to {
			line = append(line, point{f.x.place(x), f.y.place(v)})
		}
	}
	f.s.path(line, false, "fit "+c.style, "")
}

func (f frame) whisker(x, lo, hi float64, class string) {
	const half = 5.0
	f.s.path([]point{{x - half, hi}, {x + half, hi}}, false, "whisker "+class, "")
	f.s.path([]point{{x, hi}, {x, lo}}, false, "whisker "+class, "")
	f.s.path([]point{{x - half, lo}, {x + half, lo}}, false, "whisker "+class, "")
}

// drawResiduals draws how far each measured interval is off the fitted line.
func drawResiduals(list []series) template.HTML {
	var xs []float64
	most := 5.0 // percent; smaller ones are not magnified into mountains
	for _, c := range list {
		for _, r := range c.fit.Residuals {
			xs = append(xs, float64(r.ContextTokens))
			for _, v := range []float64{r.Relative, r.RelativeLo, r.RelativeHi} {
				most = max(most, math.Abs(100*v)*1.1)
			}
		}
	}
	f := newFrame("prefill cost, measured against fitted", "context, tokens", "off the line, %", room(xs...), scale{from: -most, to: most})
	f.s.line(f.x.at, f.y.place(0), f.x.until, f.y.place(0), "axis")
	for _, c := range list {
		for _, r := range c.fit.Residuals {
			x := f.x.place(float64(r.ContextTokens))
			y := f.y.place(100 * r.Relative)
			f.s.line(x, f.y.place(0), x, y, "stem "+c.style)
			if r.RelativeLo < r.RelativeHi {
				f.whisker(x, f.y.place(100*r.RelativeLo), f.y.place(100*r.RelativeHi), c.style)
			}
			f.s.circle(x, y, 4, "median "+c.style, fmt.Sprintf("%s, at %s tokens: %.4f ms per token, fitted %.4f, %+.1f %%",
				c.name, number(float64(r.ContextTokens)), r.MSPerToken, r.FittedMS, 100*r.Relative))
		}
	}
	return f.s.end()
}
