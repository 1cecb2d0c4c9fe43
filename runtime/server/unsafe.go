package server

import (
	"context"
	"net/http"
	"time"
)

// Unsafe takes safeguards away, one each. It is for the recovery suite alone,
// which must notice that one is missing.
type Unsafe struct {
	NoKeepalive  bool // a stream is silent while there is no text
	IgnoreHangup bool // a client that has gone is answered to the end
}

// UnsafeOf returns the switches whose words are set.
func UnsafeOf(set func(word string) bool) Unsafe {
	return Unsafe{NoKeepalive: set("no-keepalive"), IgnoreHangup: set("ignore-hangup")}
}

// noKeepalive is an interval that does not pass.
const noKeepalive = 24 * time.Hour

// hearing returns the request as handlers get it: its context ends when the
// client hangs up, unless that safeguard is off.
func (u Unsafe) hearing(r *http.Request) *http.Request {
	if u.IgnoreHangup {
		return r.WithContext(context.WithoutCancel(r.Context()))
	}
	return r
}
