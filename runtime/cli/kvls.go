package cli

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"ds4/runtime/kvstore"
)

// maxTreeLevel bounds the width of the tree: branches of deeper branches are
// drawn at this level.
const maxTreeLevel = 24

// shortID is how many digits of an id the tree shows; dump and restore need no
// more.
const shortID = 12

func (a *app) kvListCommand() *cobra.Command {
	var (
		s            kvSettings
		asJSON, flat bool
	)
	s.addModel()
	cmd := a.command("ls [--flat] [--json] [-m FILE] [DIR]", "list the conversations of a cache folder", maxArgs(1), &s.settings,
		func(cmd *cobra.Command, args []string) error {
			list, err := s.look(cmd, args, kvstore.SurveyOptions{})
			if err != nil {
				return err
			}
			p := newListing(list)
			switch {
			case asJSON:
				err = p.json(a.Out)
			case flat:
				err = p.print(a.Out, p.flat)
			default:
				err = p.print(a.Out, p.tree)
			}
			return err
		})
	cmd.Long = `List the segments of a cache folder as a tree of conversations: a line continues the
one above it, and what several conversations begin with is drawn once. Verdicts:

  ok          a lookup reaches it
  orphan      intact, but what comes before it is gone or damaged; used again when that has
              been evaluated and written again, and the first to be evicted
  stale       of another model, tokenizer, numerics or format; removed at the next start
  damaged     header, table or footer are wrong (verify --full looks at the rest)
  convicted   intact, but a device failed with it; quarantined at the next start
  unreadable  this process may not read it, or the disk failed

Hits halve every six hours. A segment with two strikes goes to quarantine.`
	cmd.Example = `  ds4 kv ls --kv-disk-dir ~/.cache/ds4
  ds4 kv ls --flat DIR | awk '$NF != "ok"'
  ds4 kv ls --json DIR | jq '.summary'`
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON; docs/kvstore.md names its fields")
	cmd.Flags().BoolVar(&flat, "flat", false, "one line per segment with its whole id, no tree")
	return cmd
}

// listing prints a Survey.
type listing struct {
	*kvstore.Survey
	sum kvstore.Summary
}

func newListing(s *kvstore.Survey) *listing { return &listing{s, s.Summary()} }

// row is one line of a table.
type row [8]string

// idColumn is the first column after the numbers.
const idColumn = 6

// print writes the segments as list yields them, the quarantine and the summary.
func (p *listing) print(out io.Writer, list func(yield func(row))) error {
	w := bufio.NewWriter(out)
	if p.InUse {
		fmt.Fprintf(w, "%s is in use by %v%s\n\n", p.Dir, p.Holder, at(p.Holder.URL))
	}
	if len(p.Segments) > 0 {
		p.table(w, list)
		fmt.Fprintln(w)
	}
	if len(p.Quarantined) > 0 {
		p.quarantine(w)
		fmt.Fprintln(w)
	}
	for _, line := range p.summary() {
		fmt.Fprintln(w, line)
	}
	return w.Flush()
}

func at(url string) string {
	if url == "" {
		return ""
	}
	return ", " + url
}

// table lays the rows out in two passes, so that none of them is kept.
func (p *listing) table(w io.Writer, list func(yield func(row))) {
	var widths columns
	head := row{"TOKENS", "SIZE", "AGE", "USED", "HITS", "STRIKES", "ID", "VERDICT"}
	widths.fit(head)
	list(func(r row) { widths.fit(r) })
	widths.write(w, head)
	list(func(r row) { widths.write(w, r) })
}

// columns are the widths of a table.
type columns [len(row{})]int

func (c *columns) fit(r row) {
	for i, text := range r {
		c[i] = max(c[i], utf8.RuneCountInString(text))
	}
}

func (c *columns) write(w io.Writer, r row) {
	var line strings.Builder
	for i, text := range r {
		pad := strings.Repeat(" ", c[i]-utf8.RuneCountInString(text))
		switch {
		case i == len(r)-1:
			line.WriteString(text)
		case i > 0 && i < idColumn: // numbers
			line.WriteString(pad + text + "  ")
		default:
			line.WriteString(text + pad + "  ")
		}
	}
	fmt.Fprintln(w, line.String())
}

// row describes one segment.
func (p *listing) row(f *kvstore.SegmentInfo, lead, id string) row {
	tokens := "?"
	if f.Identity != nil {
		tokens = fmt.Sprintf("[%d,%d)", f.From, f.To)
	}
	verdict := string(f.Verdict)
	if f.Reason != "" {
		verdict += ": " + f.Reason
	}
	return row{lead + tokens, formatBytes(uint64(f.Bytes)), formatAge(p.Time.Sub(f.Created)), formatAge(p.Time.Sub(f.LastUsed)),
		fmt.Sprintf("%.1f", f.Hits), fmt.Sprint(f.Strikes), id, verdict}
}

func (p *listing) flat(yield func(row)) {
	for i := range p.Segments {
		yield(p.row(&p.Segments[i], "", p.Segments[i].ID.String()))
	}
}

// tree yields the segments in depth-first order. What continues a segment alone
// stands below it; branches are drawn.
func (p *listing) tree(yield func(row)) {
	type place struct {
		at          int32
		level       int
		lead, below string // of this line, and of what continues it
	}
	var open []place
	for _, i := range slices.Backward(p.Roots()) {
		open = append(open, place{at: i})
	}
	for len(open) > 0 {
		x := open[len(open)-1]
		open = open[:len(open)-1]
		f := &p.Segments[x.at]
		yield(p.row(f, x.lead, f.ID.String()[:shortID]))
		kids := p.Children(x.at)
		for n, k := range slices.Backward(kids) {
			y := place{k, x.level, x.below, x.below}
			if len(kids) > 1 && x.level < maxTreeLevel {
				mark, bar := "├─ ", "│  "
				if n == len(kids)-1 {
					mark, bar = "└─ ", "   "
				}
				y = place{k, x.level + 1, x.below + mark, x.below + bar}
			}
			open = append(open, y)
		}
	}
}

func (p *listing) quarantine(w io.Writer) {
	var widths columns
	rows := func(yield func(row)) {
		for _, q := range p.Quarantined {
			why := q.Why
			if q.Error != "" {
				why += ": " + q.Error
			}
			yield(row{fmt.Sprintf("[%d,%d)", q.From, q.To), formatBytes(uint64(q.Bytes)), formatAge(p.Time.Sub(q.Since)), "", "",
				fmt.Sprint(q.Strikes), q.Name, why})
		}
	}
	head := row{"QUARANTINED", "SIZE", "SINCE", "", "", "STRIKES", "NAME", "WHY"}
	widths.fit(head)
	rows(widths.fit)
	widths.write(w, head)
	rows(func(r row) { widths.write(w, r) })
}

// verdictOrder is the order in which verdicts are summed up.
var verdictOrder = []kvstore.Verdict{kvstore.VerdictOK, kvstore.VerdictOrphan, kvstore.VerdictStale, kvstore.VerdictDamaged,
	kvstore.VerdictConvicted, kvstore.VerdictUnreadable}

// summary is the end of the listing.
func (p *listing) summary() []string {
	var states []string
	for _, v := range verdictOrder {
		if n := p.sum.Files[v]; n > 0 {
			states = append(states, fmt.Sprintf("%d %s (%s)", n, v, formatBytes(uint64(p.sum.Bytes[v]))))
		}
	}
	line := count(p.sum.Segments, "segment") + ", " + count(p.sum.Conversations, "conversation")
	if len(states) > 0 {
		line += ": " + strings.Join(states, ", ")
	}
	lines := []string{line}
	if p.Unlisted > 0 {
		lines = append(lines, fmt.Sprintf("%d more segments are not listed (%s)", p.Unlisted, formatBytes(uint64(p.UnlistedSum))))
	}
	if p.Journal != nil {
		lines = append(lines, fmt.Sprintf("hits and strikes are unknown: %v", p.Journal))
	}
	budget := "budget unknown"
	if p.Holder.BudgetBytes > 0 {
		budget = "budget " + formatBytes(uint64(p.Holder.BudgetBytes))
	}
	return append(lines, fmt.Sprintf("%d in quarantine (%s), %s being written, %s not of the cache; %s in all, %s", p.sum.Quarantined,
		formatBytes(uint64(p.sum.JailBytes)), formatBytes(uint64(p.TempBytes)), formatBytes(uint64(p.Foreign)),
		formatBytes(uint64(p.sum.Total)), budget))
}

// count names a number of things.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// rfc3339 is how times look in JSON.
func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
