package scenarios

import (
	"time"

	"ds4/faults/proxy"
)

// Via makes the way between client and server bad, for the first attempts of a
// chat. Events are those of a stream, signs of life included.
type Via struct {
	CutAfter   int      `json:"cut_after,omitempty" jsonschema:"the connection ends after so many events"`
	ResetAfter int      `json:"reset_after,omitempty" jsonschema:"the connection is reset after so many events"`
	StallAfter int      `json:"stall_after,omitempty" jsonschema:"the answer is held up after so many events, see stall"`
	Stall      Duration `json:"stall,omitzero" jsonschema:"for so long; 2s if absent"`
	Rate       int      `json:"rate,omitempty" jsonschema:"a slow reader: bytes a second that are taken from the server"`
	HalfClose  bool     `json:"half_close,omitempty" jsonschema:"the client closes its sending side when the request is sent, and goes on reading"`
	Times      int      `json:"times,omitempty" jsonschema:"attempts that suffer, 1 if absent; the later ones have a good way"`
}

const defaultStall = 2 * time.Second

// Rule is the rule of the proxy.
func (v *Via) Rule() (proxy.Rule, error) {
	r := proxy.Rule{Cut: v.CutAfter, Reset: v.ResetAfter, StallAfter: v.StallAfter, Stall: time.Duration(v.Stall),
		Rate: v.Rate, HalfClose: v.HalfClose, Times: v.Times}
	if r.StallAfter > 0 {
		r.Stall = v.Stall.Or(defaultStall)
	}
	if r.Times == 0 {
		r.Times = 1
	}
	return r, r.Check()
}
