package stat

import (
	"fmt"
	"regexp"

	"ds4/reports"
)

// Doubt is a warning that repetitions share. Those that differ in numbers only are
// one, with the first as the example.
type Doubt struct {
	Text        string // the first one's
	First       reports.Result
	Count       int // repetitions that have it
	Of          int // repetitions in all
	OtherValues bool
}

// String says it once, and how often it came.
func (d Doubt) String() string {
	text := d.Text
	if d.OtherValues {
		text += ", and the like"
	}
	return fmt.Sprintf("%s (%d of %d repetitions)", text, d.Count, d.Of)
}

var digits = regexp.MustCompile(`[0-9]+([.][0-9]+)?`)

// maxDoubts bounds the different warnings: the first ones say what is wrong.
const maxDoubts = 50

// Doubts lists the warnings of repetitions, equal ones once, in the order in which
// they first came.
func Doubts(results []reports.Result) []Doubt {
	var out []Doubt
	at := make(map[string]int)
	for i := range results {
		for _, text := range results[i].Warnings {
			kind := digits.ReplaceAllString(text, "0")
			j, known := at[kind]
			if !known {
				if len(out) == maxDoubts {
					continue
				}
				j = len(out)
				at[kind] = j
				out = append(out, Doubt{Text: text, First: results[i], Of: len(results)})
			}
			out[j].Count++
			out[j].OtherValues = out[j].OtherValues || text != out[j].Text
		}
	}
	return out
}
