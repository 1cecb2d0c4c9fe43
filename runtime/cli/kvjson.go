package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"

	"ds4/runtime/kvstore"
)

// The JSON of `ds4 kv ls`. Its fields are a promise: docs/kvstore.md describes
// them, and they only ever become more.
type (
	kvSegmentJSON struct {
		ID        string          `json:"id"`
		Parent    string          `json:"parent,omitempty"`
		From      int             `json:"from"`
		To        int             `json:"to"`
		TextBytes int             `json:"text_bytes"`
		Bytes     int64           `json:"bytes"`
		Identity  string          `json:"identity,omitempty"`
		Created   string          `json:"created"`
		LastUsed  string          `json:"last_used"`
		Hits      float64         `json:"hits"`
		Strikes   int             `json:"strikes"`
		Verdict   kvstore.Verdict `json:"verdict"`
		Reason    string          `json:"reason,omitempty"`
		Path      string          `json:"path"`
	}
	kvJailedJSON struct {
		Name    string `json:"name"`
		ID      string `json:"id"`
		From    int    `json:"from"`
		To      int    `json:"to"`
		Bytes   int64  `json:"bytes"`
		Since   string `json:"since"`
		Why     string `json:"why"`
		Error   string `json:"error,omitempty"`
		Strikes int    `json:"strikes"`
	}
	kvHolderJSON struct {
		PID   int    `json:"pid"`
		Start string `json:"start"`
		URL   string `json:"url,omitempty"`
		Tool  string `json:"tool,omitempty"`
	}
	kvSummaryJSON struct {
		Segments        int                       `json:"segments"`
		Unlisted        int                       `json:"unlisted"`
		Conversations   int                       `json:"conversations"`
		Files           map[kvstore.Verdict]int   `json:"files"`
		SegmentBytes    map[kvstore.Verdict]int64 `json:"segment_bytes"`
		Quarantined     int                       `json:"quarantined"`
		QuarantineBytes int64                     `json:"quarantine_bytes"`
		TempBytes       int64                     `json:"temp_bytes"`
		ForeignBytes    int64                     `json:"foreign_bytes"`
		Bytes           int64                     `json:"bytes"`
		BudgetBytes     int64                     `json:"budget_bytes"` // of the last server; 0: unknown
	}
)

// json prints the listing, one segment per line, without holding it in memory.
func (p *listing) json(out io.Writer) error {
	w := bufio.NewWriter(out)
	field := func(name string, v any) {
		text, _ := json.Marshal(v) // none of them can fail
		fmt.Fprintf(w, "  %q: %s,\n", name, text)
	}
	fmt.Fprint(w, "{\n")
	field("dir", p.Dir)
	var holder *kvHolderJSON
	if p.InUse {
		holder = &kvHolderJSON{p.Holder.PID, rfc3339(p.Holder.Start), p.Holder.URL, p.Holder.Tool}
	}
	field("in_use_by", holder)
	identity := ""
	if p.Identity != nil {
		identity = fmt.Sprintf("%x", *p.Identity)
	}
	field("identity", identity)
	field("summary", p.summaryJSON())
	rows(w, "segments", len(p.Segments), func(i int) any { return p.segmentJSON(&p.Segments[i]) })
	fmt.Fprint(w, ",\n")
	rows(w, "quarantined", len(p.Quarantined), func(i int) any {
		q := p.Quarantined[i]
		return kvJailedJSON{q.Name, q.ID, q.From, q.To, q.Bytes, rfc3339(q.Since), q.Why, q.Error, q.Strikes}
	})
	fmt.Fprint(w, "\n}\n")
	return w.Flush()
}

// rows writes a named array with one element per line.
func rows(w io.Writer, name string, n int, element func(i int) any) {
	fmt.Fprintf(w, "  %q: [", name)
	for i := range n {
		text, _ := json.Marshal(element(i))
		sep := ","
		if i == 0 {
			sep = ""
		}
		fmt.Fprintf(w, "%s\n    %s", sep, text)
	}
	if n > 0 {
		fmt.Fprint(w, "\n  ")
	}
	fmt.Fprint(w, "]")
}

func (p *listing) summaryJSON() kvSummaryJSON {
	return kvSummaryJSON{
		Segments: p.sum.Segments, Unlisted: p.Unlisted, Conversations: p.sum.Conversations, Files: p.sum.Files, SegmentBytes: p.sum.Bytes,
		Quarantined: p.sum.Quarantined, QuarantineBytes: p.sum.JailBytes, TempBytes: p.TempBytes, ForeignBytes: p.Foreign,
		Bytes: p.sum.Total, BudgetBytes: p.Holder.BudgetBytes,
	}
}

func (p *listing) segmentJSON(f *kvstore.SegmentInfo) kvSegmentJSON {
	j := kvSegmentJSON{ID: f.ID.String(), From: f.From, To: f.To, TextBytes: f.TextBytes, Bytes: f.Bytes, Created: rfc3339(f.Created),
		LastUsed: rfc3339(f.LastUsed), Hits: f.Hits, Strikes: f.Strikes, Verdict: f.Verdict, Reason: f.Reason, Path: f.Path(p.Dir)}
	if !f.Parent.IsZero() {
		j.Parent = f.Parent.String()
	}
	if f.Identity != nil {
		j.Identity = fmt.Sprintf("%x", *f.Identity)
	}
	return j
}
