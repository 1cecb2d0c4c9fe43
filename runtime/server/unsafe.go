package server

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// Unsafe takes safeguards away, one each. It is for the recovery suite alone,
// which must notice that one is missing.
type Unsafe struct {
	NoKeepalive    bool // a stream is silent while there is no text
	IgnoreHangup   bool // a client that has gone is answered to the end
	StatusInStream bool // a failure after the headers is written as a response of its own
}

// UnsafeOf returns the switches whose words are set.
func UnsafeOf(set func(word string) bool) Unsafe {
	return Unsafe{NoKeepalive: set("no-keepalive"), IgnoreHangup: set("ignore-hangup"), StatusInStream: set("status-in-stream")}
}

// noKeepalive is an interval that does not pass.
const noKeepalive = 24 * time.Hour

// fail appends an error to a stream as the protocol says, unless that safeguard is off.
func (u Unsafe) fail(b []byte, p protocol, e *apiError) []byte {
	if u.StatusInStream {
		b = fmt.Appendf(b, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n\r\n", e.status, http.StatusText(e.status))
		return append(appendJSON(b, errorBody{e}), '\n')
	}
	return p.fail(b, e)
}

// hearing returns the request as handlers get it: its context ends when the
// client hangs up, unless that safeguard is off.
func (u Unsafe) hearing(r *http.Request) *http.Request {
	if u.IgnoreHangup {
		return r.WithContext(context.WithoutCancel(r.Context()))
	}
	return r
}
