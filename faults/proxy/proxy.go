// Package proxy stands between a client and a server and makes the way between
// them bad: it cuts an answer after its n-th event, holds it up, reads slowly,
// resets the connection, or closes one half of it.
//
// It promises that what it passes on is unchanged, byte for byte, and that it
// knows where an event of a stream ends whatever the framing, so that "after the
// third event" means the same for every server. Every connection that it hurts is
// counted: a fault that never happened is no test. Nothing is left behind: Close
// ends all connections and waits for them.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// ErrRule is returned for a rule that says nothing, or too much.
var ErrRule = errors.New("proxy: invalid rule")

// Limits of rules.
const (
	MaxEvents = 1_000_000
	MaxStall  = 10 * time.Minute
	MinRate   = 16 // bytes a second
)

// Rule is what happens to connections. Of Cut, Reset, Stall and HalfClose one is
// set, or Rate, or Rate with one of them.
type Rule struct {
	Cut        int           // close both sides after so many events of an answer
	Reset      int           // the same, with a reset instead of an orderly end
	StallAfter int           // hold the answer up after so many events
	Stall      time.Duration // for so long; then it goes on
	Rate       int           // bytes a second that are taken from the server, in small pieces
	HalfClose  bool          // the client's side says that it is done once the request is sent
	Times      int           // connections that are hurt; 0: every one
}

// Check says whether a rule can be followed.
func (r Rule) Check() error {
	kinds := 0
	for _, set := range []bool{r.Cut != 0, r.Reset != 0, r.Stall != 0 || r.StallAfter != 0, r.HalfClose} {
		if set {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return fmt.Errorf("%w: want one of cut, reset, stall and half close", ErrRule)
	case kinds == 0 && r.Rate == 0:
		return fmt.Errorf("%w: it does nothing", ErrRule)
	case r.Cut < 0 || r.Cut > MaxEvents || r.Reset < 0 || r.Reset > MaxEvents || r.StallAfter < 0 || r.StallAfter > MaxEvents:
		return fmt.Errorf("%w: events: want 1 to %d", ErrRule, MaxEvents)
	case r.Stall < 0 || r.Stall > MaxStall || (r.Stall == 0) != (r.StallAfter == 0):
		return fmt.Errorf("%w: stall: want events to wait for, and up to %s", ErrRule, MaxStall)
	case r.Rate != 0 && r.Rate < MinRate:
		return fmt.Errorf("%w: rate %d: want at least %d bytes a second", ErrRule, r.Rate, MinRate)
	case r.Times < 0:
		return fmt.Errorf("%w: times %d", ErrRule, r.Times)
	}
	return nil
}

// Proxy listens until it is closed.
type Proxy struct {
	rule   Rule
	target atomic.Pointer[string] // host and port
	l      net.Listener
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	chosen atomic.Int64 // connections that the rule was for
	hurt   atomic.Int64 // connections on which it did something
}

// Start listens on a free port of this machine, in front of the server at base.
// The caller must Close.
func Start(base string, rule Rule) (*Proxy, error) {
	if err := rule.Check(); err != nil {
		return nil, err
	}
	p := &Proxy{rule: rule}
	if err := p.Retarget(base); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p.l = l
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	return p, nil
}

// Retarget sends later connections to another server.
func (p *Proxy) Retarget(base string) error {
	u, err := url.Parse(base)
	if err != nil || u.Hostname() == "" || u.Scheme != "http" {
		return fmt.Errorf("proxy: %q is not an http URL", base)
	}
	target := u.Host
	if u.Port() == "" {
		target = net.JoinHostPort(u.Hostname(), "80")
	}
	p.target.Store(&target)
	return nil
}

// URL is where clients connect to.
func (p *Proxy) URL() string { return "http://" + p.l.Addr().String() }

// Hurt is the number of connections on which the rule has done something.
func (p *Proxy) Hurt() int { return int(p.hurt.Load()) }

// Close ends everything and waits for it.
func (p *Proxy) Close() {
	p.cancel()
	_ = p.l.Close()
	p.wg.Wait()
}

func (p *Proxy) accept() {
	for {
		c, err := p.l.Accept()
		if err != nil {
			return // closed
		}
		rule := p.rule
		if n := p.chosen.Add(1); rule.Times > 0 && n > int64(rule.Times) {
			rule = Rule{}
		}
		p.wg.Go(func() { p.serve(c.(*net.TCPConn), rule) })
	}
}

// serve passes one connection on.
func (p *Proxy) serve(down *net.TCPConn, rule Rule) {
	defer down.Close()
	conn, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(p.ctx, "tcp", *p.target.Load())
	if err != nil {
		return // as the client would see it: a connection that ends at once
	}
	up := conn.(*net.TCPConn)
	defer up.Close()
	if rule.Rate > 0 {
		_ = up.SetReadBuffer(smallBuffer) // the server must feel it
	}
	stop := context.AfterFunc(p.ctx, func() { down.Close(); up.Close() })
	defer stop()
	var requests sync.WaitGroup
	requests.Go(func() { p.upward(up, down, rule) })
	p.downward(down, up, rule)
	_ = up.Close() // ends the other direction, too
	_ = down.Close()
	requests.Wait()
}

const (
	dialTimeout = 10 * time.Second
	smallBuffer = 4 << 10
)

// upward passes requests on. A client that hangs up ends both directions, unless
// it only said that it has nothing to add.
func (p *Proxy) upward(up, down *net.TCPConn, rule Rule) {
	if rule.HalfClose {
		p.halfClosing(up, down)
		return
	}
	_, err := io.Copy(up, down)
	if err != nil {
		_ = up.Close()
		return
	}
	_ = up.CloseWrite()
}

// downward passes answers on, and does to them what the rule says.
func (p *Proxy) downward(down, up *net.TCPConn, rule Rule) {
	s := scanner{blank: true}
	size := 32 << 10
	const pieces = 10 // a second
	if rule.Rate > 0 {
		size = max(rule.Rate/pieces, 1)
	}
	buf := make([]byte, size)
	limit := max(rule.Cut, rule.Reset, rule.StallAfter)
	slowed := false
	for events := 0; ; {
		n, err := up.Read(buf)
		from := 0
		for i := range n {
			if !s.next(buf[i]) {
				continue
			}
			if events++; events != limit {
				continue
			}
			if _, err := down.Write(buf[:i+1]); err != nil {
				return
			}
			from = i + 1
			if p.strike(down, up, rule) {
				return
			}
		}
		if _, werr := down.Write(buf[from:n]); werr != nil || err != nil {
			return
		}
		if rule.Rate > 0 {
			if !slowed && limit == 0 {
				slowed = true
				p.hurt.Add(1)
			}
			p.pause(time.Second / pieces)
		}
	}
}

// strike does what a rule says at its event, and returns whether that ends the
// connection.
func (p *Proxy) strike(down, up *net.TCPConn, rule Rule) (ends bool) {
	p.hurt.Add(1)
	if rule.Stall > 0 {
		p.pause(rule.Stall)
		return false
	}
	if rule.Reset > 0 {
		_ = down.SetLinger(0)
		_ = up.SetLinger(0)
	}
	return true
}

func (p *Proxy) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.ctx.Done():
	}
}

// Events says whether the rule waits for events of a stream.
func (r Rule) Events() bool { return r.Cut > 0 || r.Reset > 0 || r.StallAfter > 0 }

// String says what the rule does.
func (r Rule) String() string {
	var list []string
	if r.Cut > 0 {
		list = append(list, fmt.Sprintf("cut after %d events", r.Cut))
	}
	if r.Reset > 0 {
		list = append(list, fmt.Sprintf("reset after %d events", r.Reset))
	}
	if r.StallAfter > 0 {
		list = append(list, fmt.Sprintf("stalled for %s after %d events", r.Stall, r.StallAfter))
	}
	if r.Rate > 0 {
		list = append(list, fmt.Sprintf("read at %d bytes a second", r.Rate))
	}
	if r.HalfClose {
		list = append(list, "half closed")
	}
	return strings.Join(list, ", ")
}
