package errfs

import (
	"errors"
	"io"
	"io/fs"
	"sync"
	"syscall"
	"time"

	"ds4/faults"
	"ds4/runtime/failpoint"
	"ds4/runtime/vfs"
)

// Op is a kind of file-system operation.
type Op string

// The operations of a vfs.FS and its files.
const (
	OpOpen    Op = "open"
	OpCreate  Op = "create"
	OpAppend  Op = "append"
	OpRead    Op = "read"
	OpWrite   Op = "write"
	OpSync    Op = "sync"
	OpClose   Op = "close" // of files that were written
	OpRename  Op = "rename"
	OpRemove  Op = "remove"
	OpLstat   Op = "lstat"
	OpReadDir Op = "readdir"
	OpMkdir   Op = "mkdir"
	OpSyncDir Op = "syncdir"
	OpLock    Op = "lock"
)

// Ops lists every operation.
func Ops() []Op {
	return []Op{OpOpen, OpCreate, OpAppend, OpRead, OpWrite, OpSync, OpClose, OpRename, OpRemove,
		OpLstat, OpReadDir, OpMkdir, OpSyncDir, OpLock}
}

// ErrCrashed is what every operation returns after a rule with kill9 has fired.
var ErrCrashed = errors.New("errfs: the process is dead")

func opNames() []string {
	var names []string
	for _, op := range Ops() {
		names = append(names, string(op))
	}
	return names
}

// Rule is a fault of the file system. Its text is one of faults.CallRule, with
// the operations above:
//
//	err(TEXT) enospc eio eacces  the operation fails
//	short(N)                     of a read or write only so much is done, then it fails
//	flip(OFF) zero(OFF,N)        the bytes of a read or write change on their way; offsets count in the file
//	lie                          nothing is done, and success is reported
//	delay(D) hang                it takes that long; hang: until the rules are replaced
//	kill9                        the process is dead: this and every later operation fails with ErrCrashed
//
// A rule whose offset lies outside of a read or write is not hit by it.
type Rule struct {
	faults.CallRule
	Err    error  // instead of what the action says
	OnFire func() // called once, before the action first happens
}

// Parse reads a rule.
func Parse(text string) (Rule, error) {
	r, err := faults.ParseCall(text, opNames())
	return Rule{CallRule: r}, err
}

// MustParse is Parse for rules in the source of a program: it panics.
func MustParse(text string) Rule {
	r, err := Parse(text)
	if err != nil {
		panic(err)
	}
	return r
}

// Then returns the rule with a function that is called once, just before it
// first fires.
func (r Rule) Then(onFire func()) Rule {
	r.OnFire = onFire
	return r
}

// FS is a file system whose operations fail by rules. It is safe for concurrent
// use.
type FS struct {
	base vfs.FS

	mu    sync.Mutex
	rules []*state
	gone  chan struct{} // closed when the rules are replaced: wakes what hangs
	dead  bool
	count map[Op]int
	last  Op
}

type state struct {
	Rule
	*failpoint.Counter
}

// Wrap returns base with rules. Later calls of SetRules replace them.
func Wrap(base vfs.FS, rules ...Rule) *FS {
	f := &FS{base: base, count: map[Op]int{}}
	f.SetRules(rules...)
	return f
}

// SetRules replaces the rules and their counters. What hangs in an old one goes
// on.
func (f *FS) SetRules(rules ...Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
	for _, r := range rules {
		f.rules = append(f.rules, &state{r, failpoint.NewCounter(r.Trigger)})
	}
	if f.gone != nil {
		close(f.gone)
	}
	f.gone = make(chan struct{})
}

// Crash makes every later operation return ErrCrashed, as for a process that was
// killed.
func (f *FS) Crash() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
}

// Status reports on one rule.
type Status struct {
	Rule  Rule
	Armed int // operations that it was armed for: of its kind, with its path
	Fired int
}

// Status reports on the rules, in their order.
func (f *FS) Status() []Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []Status
	for _, r := range f.rules {
		hits, fired := r.Counter.Count()
		list = append(list, Status{r.Rule, hits, fired})
	}
	return list
}

// Fired returns how often the rules have fired, all together.
func (f *FS) Fired() int {
	n := 0
	for _, s := range f.Status() {
		n += s.Fired
	}
	return n
}

// Count returns how many operations of a kind there were.
func (f *FS) Count(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[op]
}

// Last returns the kind of the last operation, which after kill9 is that in which
// the process died.
func (f *FS) Last() Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last
}

// call is one operation on its way.
type call struct {
	op   Op
	name string
	at   int64  // offset of data in the file
	data []byte // of a read, once it was done, or of a write
}

// fate is what becomes of a call. With err it fails, after done bytes of data.
type fate struct {
	done int
	err  error
	lie  bool
	bad  *failpoint.Action // damages the data
}

// hit counts a call and carries out the first rule that fires, as far as that is
// possible before the operation.
func (f *FS) hit(c call) fate {
	r, gone, dead := f.choose(c)
	name := string(c.op)
	if dead && r == nil {
		return fate{err: fail(name, c.name, ErrCrashed)}
	}
	if r == nil {
		return fate{done: len(c.data)}
	}
	out := fate{done: r.Done(len(c.data))}
	switch a := &r.Action; {
	case dead:
		out.err = ErrCrashed
	case r.Err != nil:
		out.err = r.Err
	case a.Kind == failpoint.KindErr:
		out.err = errors.New(a.Text)
	case a.Kind == failpoint.KindENOSPC:
		out.err = syscall.ENOSPC
	case a.Kind == failpoint.KindEIO:
		out.err = syscall.EIO
	case a.Kind == failpoint.KindEACCES:
		out.err = syscall.EACCES
	case a.Kind == failpoint.KindShort:
		out.done, out.err = a.Keep(len(c.data)), io.ErrUnexpectedEOF
	case a.Kind == failpoint.KindFlip, a.Kind == failpoint.KindZero:
		out.bad = a
	case a.Kind == failpoint.KindLie:
		out.lie = true
	default:
		wait(a.Delay, gone)
	}
	if out.err != nil {
		out.err = fail(name, c.name, out.err)
	} else {
		out.done = len(c.data)
	}
	return out
}

// choose counts a call and returns the rule that fires, if any, and whether the
// process is dead.
func (f *FS) choose(c call) (r *state, gone chan struct{}, dead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil, nil, true
	}
	f.count[c.op]++
	f.last = c.op
	for _, r := range f.rules {
		if !r.Matches(string(c.op), c.name) || !r.touches(c) {
			continue
		}
		n := r.Counter.Hit()
		if n == 0 {
			continue
		}
		if n == 1 && r.OnFire != nil {
			r.OnFire()
		}
		f.dead = r.Action.Kind == failpoint.KindKill9
		return r, f.gone, f.dead
	}
	return nil, nil, false
}

// touches reports whether the action has something to do with the call's bytes. A
// short action is for any call: what has no bytes just fails.
func (r *state) touches(c call) bool {
	switch r.Action.Kind {
	case failpoint.KindFlip, failpoint.KindZero:
		return r.Action.Touches(c.at, len(c.data))
	}
	return true
}

// wait stands still for d, or without end for 0; other rules end it early.
func wait(d time.Duration, gone chan struct{}) {
	if d == 0 {
		<-gone
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-gone:
	}
}

// do runs an operation without bytes unless a rule decides otherwise.
func (f *FS) do(op Op, name string, run func() error) error {
	out := f.hit(call{op: op, name: name})
	if out.err != nil || out.lie {
		return out.err
	}
	return run()
}

// open opens a file; a lie about that is of no use and is not told.
func (f *FS) open(op Op, name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	if out := f.hit(call{op: op, name: name}); out.err != nil {
		return nil, out.err
	}
	file, err := open(name)
	if err != nil {
		return nil, err
	}
	e := &errFile{File: file, fs: f, name: name, written: op != OpOpen}
	if op == OpAppend {
		if e.end, err = file.Size(); err != nil {
			_ = file.Close()
			return nil, err
		}
	}
	return e, nil
}

// Open opens a file for reading.
func (f *FS) Open(name string) (vfs.File, error) { return f.open(OpOpen, name, f.base.Open) }

// Create makes a new file.
func (f *FS) Create(name string) (vfs.File, error) { return f.open(OpCreate, name, f.base.Create) }

// Append opens a file for writing at its end.
func (f *FS) Append(name string) (vfs.File, error) { return f.open(OpAppend, name, f.base.Append) }

// Rename counts under the new name.
func (f *FS) Rename(old, new string) error {
	return f.do(OpRename, new, func() error { return f.base.Rename(old, new) })
}

// Remove removes a name.
func (f *FS) Remove(name string) error {
	return f.do(OpRemove, name, func() error { return f.base.Remove(name) })
}

// Lstat describes a name.
func (f *FS) Lstat(name string) (fs.FileInfo, error) {
	if out := f.hit(call{op: OpLstat, name: name}); out.err != nil {
		return nil, out.err
	}
	return f.base.Lstat(name)
}

// ReadDir lists a folder.
func (f *FS) ReadDir(name string, visit func(vfs.Entry) error) error {
	return f.do(OpReadDir, name, func() error { return f.base.ReadDir(name, visit) })
}

// MkdirAll makes a folder.
func (f *FS) MkdirAll(name string) error {
	return f.do(OpMkdir, name, func() error { return f.base.MkdirAll(name) })
}

// SyncDir syncs a folder.
func (f *FS) SyncDir(name string) error {
	return f.do(OpSyncDir, name, func() error { return f.base.SyncDir(name) })
}

// Lock takes a lock. It is released by the base when its holder closes it, even
// after a crash: a dead process holds no lock.
func (f *FS) Lock(name string) (vfs.Locker, error) {
	if out := f.hit(call{op: OpLock, name: name}); out.err != nil {
		return nil, out.err
	}
	l, err := f.base.Lock(name)
	if err != nil {
		return nil, err
	}
	return &errLock{l, f, name}, nil
}

// errLock counts a look at the lock as lstat.
type errLock struct {
	vfs.Locker
	fs   *FS
	name string
}

func (l *errLock) Held() error {
	if out := l.fs.hit(call{op: OpLstat, name: l.name}); out.err != nil {
		return out.err
	}
	return l.Locker.Held()
}

type errFile struct {
	vfs.File
	fs      *FS
	name    string
	written bool
	end     int64 // where the next write goes
}

// ReadAt reads first, so that a rule can change what was read.
func (e *errFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := e.File.ReadAt(b, off)
	out := e.fs.hit(call{op: OpRead, name: e.name, at: off, data: b[:n]})
	switch {
	case out.err != nil:
		return out.done, out.err
	case out.lie:
		clear(b[:n])
	case out.bad != nil:
		out.bad.Damage(off, b[:n])
	}
	return n, err
}

func (e *errFile) Write(b []byte) (int, error) {
	out := e.fs.hit(call{op: OpWrite, name: e.name, at: e.end, data: b})
	if out.lie {
		return len(b), nil
	}
	if out.bad != nil {
		b = append([]byte(nil), b...)
		out.bad.Damage(e.end, b)
	}
	n, err := 0, error(nil)
	if out.done > 0 || out.err == nil {
		n, err = e.File.Write(b[:out.done])
		e.end += int64(n)
	}
	if out.err != nil {
		err = out.err
	}
	return n, err
}

func (e *errFile) Sync() error {
	return e.fs.do(OpSync, e.name, e.File.Sync)
}

// Close always closes the file below: a failing close(2) does that too.
func (e *errFile) Close() error {
	err := e.File.Close()
	if !e.written {
		return err
	}
	if out := e.fs.hit(call{op: OpClose, name: e.name}); out.err != nil {
		return out.err
	}
	return err
}
