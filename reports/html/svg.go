package html

import (
	"fmt"
	"html"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// svg builds one drawing. Colours come from the page's style sheet through
// classes, so that a drawing fits light, dark and print. Every text is escaped.
type svg struct {
	b             strings.Builder
	width, height float64
}

// newSVG begins a drawing. label is what it shows, for those who do not see it.
func newSVG(width, height float64, class, label string) *svg {
	s := &svg{width: width, height: height}
	fmt.Fprintf(&s.b, `<svg class="%s" viewBox="0 0 %s %s" width="%s" height="%s" role="img" aria-label="%s">`,
		html.EscapeString(class), num(width), num(height), num(width), num(height), html.EscapeString(printable(label)))
	return s
}

func (s *svg) end() template.HTML {
	s.b.WriteString("</svg>")
	return template.HTML(s.b.String()) //nolint:gosec // made here, and every text in it escaped
}

func (s *svg) rect(x, y, w, h float64, class, title string) {
	fmt.Fprintf(&s.b, `<rect x="%s" y="%s" width="%s" height="%s" class="%s"`, num(x), num(y), num(w), num(h), html.EscapeString(class))
	s.close("rect", title)
}

func (s *svg) line(x1, y1, x2, y2 float64, class string) {
	fmt.Fprintf(&s.b, `<line x1="%s" y1="%s" x2="%s" y2="%s" class="%s"/>`, num(x1), num(y1), num(x2), num(y2), html.EscapeString(class))
}

func (s *svg) circle(x, y, r float64, class, title string) {
	fmt.Fprintf(&s.b, `<circle cx="%s" cy="%s" r="%s" class="%s"`, num(x), num(y), num(r), html.EscapeString(class))
	s.close("circle", title)
}

// point is a place of a drawing.
type point struct{ x, y float64 }

// path draws through points; closed fills the area between them.
func (s *svg) path(points []point, closed bool, class, title string) {
	if len(points) == 0 {
		return
	}
	s.b.WriteString(`<path d="`)
	for i, p := range points {
		c := "L"
		if i == 0 {
			c = "M"
		}
		s.b.WriteString(c + num(p.x) + " " + num(p.y))
	}
	if closed {
		s.b.WriteString("Z")
	}
	fmt.Fprintf(&s.b, `" class="%s"`, html.EscapeString(class))
	s.close("path", title)
}

// text writes a text; anchor is start, middle or end.
func (s *svg) text(x, y float64, anchor, class, text string) {
	fmt.Fprintf(&s.b, `<text x="%s" y="%s" text-anchor="%s" class="%s">%s</text>`,
		num(x), num(y), anchor, html.EscapeString(class), html.EscapeString(printable(text)))
}

// close ends an element, with what a pointer over it shows.
func (s *svg) close(element, title string) {
	if title == "" {
		s.b.WriteString("/>")
		return
	}
	fmt.Fprintf(&s.b, `><title>%s</title></%s>`, html.EscapeString(printable(clip(title, maxTitle))), element)
}

// num is a coordinate with a tenth of a pixel, which is all that can be seen.
func num(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		v = 0
	}
	return strconv.FormatFloat(math.Round(v*10)/10, 'f', -1, 64)
}

// scale maps values to places.
type scale struct{ from, to, at, until float64 }

func (c scale) place(v float64) float64 {
	if c.to <= c.from {
		return c.at
	}
	return c.at + (v-c.from)/(c.to-c.from)*(c.until-c.at)
}

// ticks returns at most n+1 round values from the scale's beginning to its end.
func (c scale) ticks(n int) []float64 {
	span := c.to - c.from
	if !(span > 0) || math.IsInf(span, 0) {
		return nil
	}
	step := roundStep(span / float64(n))
	var out []float64
	for i := math.Ceil(c.from / step); i*step <= c.to*(1+1e-9) && len(out) <= n; i++ {
		out = append(out, i*step)
	}
	return out
}

// roundStep is the least of 1, 2, 5 and 10 times a power of ten that is not below v.
func roundStep(v float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}
