package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"ds4/reports"
	"ds4/reports/table"
	"ds4/scenarios/run"
)

// progress tells a waiting person what goes on: on a terminal one line that is
// rewritten, elsewhere a line for each finished repetition and now and then one
// in between, so that a log shows that something moves.
type progress struct {
	w     io.Writer
	width int // columns of the terminal, 0 if it is none

	mu   sync.Mutex
	last time.Time // when the line was last written
	open bool      // the line is on the screen
}

// The least time between two versions of the progress line: redraw on a
// terminal, heartbeat elsewhere.
const (
	redraw    = 100 * time.Millisecond
	heartbeat = 20 * time.Second
)

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, last: time.Now()}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width, p.last = max(width, 20), time.Time{} // a terminal shows the first line at once
		}
	}
	return p
}

// at shows where a run is.
func (p *progress) at(g run.Progress) {
	rate := ""
	if g.PrefillTPS > 0 {
		rate = fmt.Sprintf("  %.0f t/s", g.PrefillTPS)
	}
	p.line(fmt.Sprintf("[%d/%d] %s #%d  %s  %.1f s%s", g.Index+1, g.Total, g.Scenario, g.Repetition, g.Step, g.Elapsed.Seconds(), rate))
}

// line shows a text in place of the one before, if that was not too recent.
func (p *progress) line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	pause := redraw
	if p.width == 0 {
		pause = heartbeat
	}
	if time.Since(p.last) < pause {
		return
	}
	p.last = time.Now()
	if p.width == 0 {
		fmt.Fprintln(p.w, table.Printable(text))
		return
	}
	p.open = true
	r := []rune(table.Printable(text))
	if len(r) >= p.width {
		r = append(r[:p.width-2], '…')
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s", string(r))
}

// clear takes the progress line away.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
}

func (p *progress) clearLocked() {
	if p.open {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.open = false
	}
}

// say prints a line that stays.
func (p *progress) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
	p.last = time.Now()
	fmt.Fprintf(p.w, format+"\n", args...)
}

// finished prints how a repetition came out.
func (p *progress) finished(r *reports.Result) {
	words := []string{fmt.Sprintf("%-12s %s #%d", r.Verdict, r.Scenario, r.Repetition)}
	if r.Outcome != "" && r.Outcome != string(r.Verdict) {
		words = append(words, r.Outcome)
	}
	if r.Verdict == reports.Fail && len(r.Failures) > 0 {
		first, _, _ := strings.Cut(r.Failures[0], "\n")
		words = append(words, first)
	} else if r.Reason != "" {
		words = append(words, r.Reason)
	}
	if r.DurationMS > 0 {
		words = append(words, fmt.Sprintf("%.1f s", r.DurationMS/1000))
	}
	p.say("%s", table.Printable(strings.Join(words, "  ")))
}
