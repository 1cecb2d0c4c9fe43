package html

import (
	"fmt"
	"image"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ds4/reports/html/browser"
)

// parts are what a page with everything shows, each with colours that its picture
// must have, as variables of the style sheet, and the least number of such pixels.
//
// The pictures are not compared with stored ones: letters are rendered differently
// by every version of a browser and its fonts, which moves everything below them.
// What a picture would prove is checked by its causes instead: every part is there
// and has a size, it is painted in the colours of what it means, texts stand out
// from what is behind them, and nothing is wider than the window.
var parts = []struct {
	name, selector string
	colours        map[string]int
}{
	{"verdicts", "#verdicts", map[string]int{"--pass-bg": 500, "--fail-bg": 300, "--inconclusive-bg": 300, "--link": 200}},
	{"problems", "#problems", map[string]int{"--panel": 5000, "--fail-bg": 200}},
	{"comparison", "#comparison", map[string]int{"--fail": 60, "--pass-bg": 100, "--step": 1500}},
	{"timeline", "#timelines details.recovery", map[string]int{"--ok": 1500, "--fail": 200, "--pass": 40, "--shade": 5000, "--up": 1500, "--bracket": 200}},
	{"curves", "#throughput .charts", map[string]int{"--s0": 400, "--base": 250}},
	{"loads", "#load .charts", map[string]int{"--s0": 800, "--s1": 800}},
	{"warnings", "#warnings", nil},
	{"facts", "#facts", nil},
}

func pageFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, whole(t), 0o644); err != nil {
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "file", Path: path}).String()
}

func TestBrowserShowsParts(t *testing.T) {
	b := browser.Start(t)
	address := pageFile(t)
	for _, look := range []browser.Look{
		{Width: 1280, Height: 900}, {Width: 1280, Height: 900, Dark: true},
		{Width: 390, Height: 844}, {Width: 390, Height: 844, Dark: true},
	} {
		name := fmt.Sprintf("%d-light", look.Width)
		if look.Dark {
			name = fmt.Sprintf("%d-dark", look.Width)
		}
		t.Run(name, func(t *testing.T) {
			p := b.Open(t, address, look)
			picture := p.Screenshot("report-" + name)
			for _, part := range parts {
				img := p.Part(picture, part.selector)
				if look.Width > 1000 { // in a narrow window drawings scroll, and a picture has a piece of them
					checkPicture(t, p, img, part.name, part.colours)
				}
			}
			p.Eval(`document.querySelectorAll('details').forEach((d) => { d.open = true; })`, nil)
			p.CheckReadable()
			p.CheckFits()
			p.CheckQuiet(address)
		})
	}
}

// checkPicture looks at the picture of a part, which must have its colours and text.
func checkPicture(t *testing.T, p *browser.Page, img *image.RGBA, name string, colours map[string]int) {
	t.Helper()
	seen := p.Colours(img, append(slices.Collect(maps.Keys(colours)), "--paper", "--ink", "--soft")...)
	for c, least := range colours {
		if seen[c] < least {
			t.Errorf("%s: %d pixels of %s, want %d", name, seen[c], c, least)
		}
	}
	if seen["--ink"]+seen["--soft"] < 100 {
		t.Errorf("%s: no text in the picture: %v", name, seen)
	}
}

// Drawings carry what the results say: a curve with intervals for each server, a
// bracket for each recovery, an estimate in each row of the comparison.
func TestBrowserShowsDrawings(t *testing.T) {
	b := browser.Start(t)
	p := b.Open(t, pageFile(t), browser.Look{Width: 1280, Height: 900})
	p.Eval(`document.querySelectorAll('details').forEach((d) => { d.open = true; })`, nil)
	for selector, want := range map[string]int{
		"#verdicts tbody tr":                               5,
		"#timelines svg.timeline":                          3,
		"#timelines .bracket":                              6, // one kill, four of five flipped bits, one crash
		"#throughput svg.chart":                            3,
		"#throughput .curve.s0":                            2,
		"#throughput .curve.baseline":                      2,
		"#throughput .band":                                4,
		"#throughput .median.s0":                           12,
		"#throughput .fit":                                 2,
		"#load .curve":                                     8,
		"#comparison svg.change .estimate":                 8,
		"#comparison svg.change .interval":                 24,
		"#comparison .badge.fail, #comparison .badge.pass": 2,
	} {
		var shown int
		p.Eval(fmt.Sprintf(`[...document.querySelectorAll(%q)].filter((e) => {
			const r = e.getBoundingClientRect();
			return e.checkVisibility() && r.width + r.height > 0;
		}).length`, selector), &shown)
		if shown != want {
			t.Errorf("%d of %s can be seen, want %d", shown, selector, want)
		}
	}
}

// The filter works without a script, and everything can be reached by keyboard.
func TestBrowserFilterAndKeyboard(t *testing.T) {
	b := browser.Start(t)
	p := b.Open(t, pageFile(t), browser.Look{Width: 1280, Height: 900})
	rows := func() (shown []string) {
		p.Eval(`[...document.querySelectorAll('#verdicts tbody tr')].filter((e) => e.checkVisibility()).map((e) => e.dataset.verdict)`, &shown)
		return shown
	}
	if n := len(rows()); n != 5 {
		t.Errorf("%d scenarios at first", n)
	}
	p.Click("#show-fail")
	if got := rows(); len(got) != 1 || got[0] != "fail" {
		t.Errorf("with the filter on fail: %q", got)
	}
	p.Click("#show-all")
	if n := len(rows()); n != 5 {
		t.Errorf("%d scenarios without the filter", n)
	}

	// A link of the table unfolds the timeline that it leads to.
	p.Eval(`document.querySelectorAll('details').forEach((d) => { d.open = false; })`, nil)
	p.Click("#verdicts a[href='#timeline-2']")
	p.Wait("the timeline to unfold", `[...document.querySelectorAll('details.recovery')].map((d) => d.open).join() === 'false,true,false'`)

	reached := map[string]bool{}
	p.Eval(`document.activeElement.blur(), scrollTo(0, 0)`, nil)
	for range 80 {
		p.Press("Tab")
		var at struct {
			Kind    string
			Outline string
		}
		p.Eval(`(() => { const e = document.activeElement, s = getComputedStyle(e);
			return {Kind: e.tagName + (e.className ? '.' + e.className.split(' ')[0] : ''), Outline: s.outlineStyle + ' ' + s.outlineWidth}; })()`, &at)
		reached[at.Kind] = true
		if at.Kind != "BODY" && at.Outline != "solid 3px" {
			t.Fatalf("%s has the focus, which one cannot see: outline %s", at.Kind, at.Outline)
		}
	}
	for _, kind := range []string{"A.skip", "A", "INPUT", "DIV.wide", "SUMMARY", "PRE"} {
		if !reached[kind] {
			t.Errorf("the Tab key never reaches %s: %v", kind, reached)
		}
	}
}

// On paper everything is there that is folded on a screen, in light colours.
func TestBrowserPrint(t *testing.T) {
	b := browser.Start(t)
	p := b.Open(t, pageFile(t), browser.Look{Width: 800, Height: 1100, Print: true, Dark: true})
	var got struct {
		Drawings int
		Paper    string
		Filter   bool
	}
	p.Eval(`(() => ({
		Drawings: [...document.querySelectorAll('svg.timeline')].filter((e) => { e.closest('details').open = false; return e.getBoundingClientRect().height > 50; }).length,
		Paper: getComputedStyle(document.documentElement).backgroundColor,
		Filter: document.querySelector('.filter').checkVisibility(),
	}))()`, &got)
	if got.Drawings != 3 || got.Paper != "rgb(255, 255, 255)" || got.Filter {
		t.Errorf("in print: %+v", got)
	}
	p.CheckReadable()
	p.Screenshot("report-print")
}
