// Package failpoint lets a test or a harness make named places of the program
// fail: return an error, damage bytes, stand still, panic, or kill the process.
//
// A place that can fail owns a Point, a package-level variable, and calls Hit
// (or Bytes, when it has just read something) there. While no rule is armed
// that costs one atomic load and no allocation. Rules come from the small
// language of Parse; Arm installs them for the whole process.
//
// Promises. A rule prints back as it was parsed. Each rule that is armed, and
// each time that it fires, writes one log line, and that line is out before the
// action happens, kill9 included. Rules are evaluated in the order in which
// they were armed; the first that fires ends the evaluation.
//
// Not promised: that a rule fires. A harness must look at the log line or at
// Status: a fault that never fired proves nothing.
package failpoint

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Scope says what a hit of a point is about, for the triggers of a rule.
type Scope struct {
	Source string // where the state came from: disk, memory, cold
	Entry  string // id of the cache entry
	Range  string // key of the context range
	// N counts what the point counts: the chunk of a prompt, the bytes written so
	// far, or for Bytes the offset in the file of the first byte.
	N int64
}

// Point is one place that can fail.
type Point struct {
	name string
	plan atomic.Pointer[plan] // nil while off
}

var registry = struct {
	sync.Mutex
	points map[string]*Point
	armed  *plan
}{points: map[string]*Point{}}

// New returns the point with this name, which the catalogue must hold: a
// misspelt name is a bug of the program, so it panics. Two calls with one name
// return the same point.
func New(name string) *Point {
	if _, ok := Lookup(name); !ok {
		panic(fmt.Sprintf("failpoint: %q is not in the catalogue", name))
	}
	registry.Lock()
	defer registry.Unlock()
	if p := registry.points[name]; p != nil {
		return p
	}
	p := &Point{name: name}
	registry.points[name] = p
	return p
}

// Points returns the names of the points that this program contains.
func Points() []string {
	registry.Lock()
	defer registry.Unlock()
	var names []string
	for _, in := range Catalogue() {
		if registry.points[in.Name] != nil {
			names = append(names, in.Name)
		}
	}
	return names
}

// Name returns the point's name.
func (p *Point) Name() string { return p.name }

// Hit evaluates the rules of the point. It returns nil when nothing fires or
// when the action lets the caller go on, and an *Error otherwise. It may not
// return at all (kill9), panic, or take as long as the rule says.
func (p *Point) Hit(s Scope) error {
	pl := p.plan.Load()
	if pl == nil {
		return nil
	}
	_, err := pl.eval(p.name, s, nil)
	return err
}

// Now is Hit for a clock: it returns the time, which is wrong once a rule has made
// it so.
func (p *Point) Now() time.Time {
	now := time.Now()
	pl := p.plan.Load()
	if pl == nil {
		return now
	}
	_, _ = pl.eval(p.name, Scope{}, nil) // a clock has no error to return
	return now.Add(time.Duration(pl.skew.Load()))
}

// Bytes is Hit for a place that has just read data: flip and zero change data in
// place, short returns a shorter slice. Offsets of the rule count from the same
// origin as s.N, which is the offset of data[0]; a rule whose offsets lie
// outside of data is not hit.
func (p *Point) Bytes(s Scope, data []byte) ([]byte, error) {
	pl := p.plan.Load()
	if pl == nil {
		return data, nil
	}
	return pl.eval(p.name, s, data)
}

// Split returns how many of the next n bytes a writer may write before it must
// call Hit again: fewer than n only if a rule with after=BYTES lies inside them.
// With it a rule stops a file at an exact length.
func (p *Point) Split(s Scope, n int) int {
	pl := p.plan.Load()
	if pl == nil {
		return n
	}
	for _, r := range pl.rules {
		if r.Point == p.name && r.After > s.N && r.After < s.N+int64(n) {
			n = int(r.After - s.N)
		}
	}
	return n
}
