package kvstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"ds4/faults/errfs"
	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	dir        = "/cache"
	segTokens  = 32
	vocab      = 64
	bytesOfTok = 2 // text bytes of one token in this world
)

// layout has a layer without compressor, one with an indexer, one without.
func layout() segment.Layout {
	return segment.Layout{Vocab: vocab, Window: 8, Layers: []segment.Layer{
		{RowBytes: 6},
		{Ratio: 4, RowBytes: 10, IndexRowBytes: 3, ClosedBytes: 17, OpenBytes: 6},
		{Ratio: 16, RowBytes: 10, OpenBytes: 5},
	}}
}

// talk is a conversation. In this world the whole state of a model is a function
// of the tokens so far, so any restored state can be compared with the true one,
// byte for byte.
type talk []int32

// newTalk returns n random tokens; talks with the same seed share a prefix.
func newTalk(seed uint64, n int) talk {
	rng := rand.New(rand.NewPCG(seed, 1))
	t := make(talk, n)
	for i := range t {
		t[i] = int32(rng.IntN(vocab))
	}
	return t
}

// then continues a talk.
func (t talk) then(u talk) talk { return append(t[:len(t):len(t)], u...) }

func (t talk) text() []byte {
	b := make([]byte, 0, len(t)*bytesOfTok)
	for _, id := range t {
		b = append(b, 0xff, byte(id))
	}
	return b
}

// bytesFor returns n bytes that depend on everything named.
func (t talk) bytesFor(what string, layer, row, upTo, n int) []byte {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %d %d", what, layer, row)
	_ = binary.Write(h, binary.LittleEndian, []int32(t[:upTo]))
	rng := rand.New(rand.NewPCG(h.Sum64(), 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

func (t talk) comp(what string, layer, ratio, rowBytes, from, to int) []byte {
	var b []byte
	for w := from / ratio; w < to/ratio; w++ {
		b = append(b, t.bytesFor(what, layer, w, (w+1)*ratio, rowBytes)...)
	}
	return b
}

func (t talk) raw(layer, rowBytes, to int) []byte {
	var b []byte
	for r := to - min(to, layout().Window); r < to; r++ {
		b = append(b, t.bytesFor("raw", layer, r, r+1, rowBytes)...)
	}
	return b
}

// segment returns what an engine would export.
func (t talk) segment(parent string, from, to int) *kvstore.Segment {
	s := &kvstore.Segment{Parent: parent, From: from, To: to, Text: t[from:to].text(), Tokens: bytesClone(t[from:to])}
	for i, y := range layout().Layers {
		var comp, index, frontier []byte
		if y.Ratio > 0 {
			comp = t.comp("comp", i, y.Ratio, y.RowBytes, from, to)
			if y.IndexRowBytes > 0 {
				index = t.comp("index", i, y.Ratio, y.IndexRowBytes, from, to)
			}
			frontier = t.bytesFor("frontier", i, 0, to, y.FrontierBytes(to))
		}
		s.Raw = append(s.Raw, t.raw(i, y.RowBytes, to))
		s.Comp, s.Index, s.Frontier = append(s.Comp, comp), append(s.Index, index), append(s.Frontier, frontier)
	}
	return s
}

// truths remembers the true states: many tests look at the same talk.
var truths sync.Map

func (t talk) truth() *kvstore.Segment {
	key := string(t.text())
	if s, ok := truths.Load(key); ok {
		return s.(*kvstore.Segment)
	}
	s := t.segment("", 0, len(t))
	truths.Store(key, s)
	return s
}

func bytesClone(t talk) []int32 { return append([]int32(nil), t...) }

// session is a restore target. Whoever writes to it after Abort or Commit is
// caught, by its own check here and by the race detector.
type session struct {
	mu       sync.Mutex
	to       int
	comp     [][]byte
	index    [][]byte
	raw      [][]byte
	frontier [][]byte
	tokens   []int32
	ended    string
	refuse   error // what Commit returns
}

func newSession(to int) *session {
	s := &session{to: to}
	for _, y := range layout().Layers {
		var comp, index, frontier []byte
		if y.Ratio > 0 {
			comp = make([]byte, to/y.Ratio*y.RowBytes)
			index = make([]byte, to/y.Ratio*y.IndexRowBytes)
			frontier = make([]byte, y.FrontierBytes(to))
		}
		s.raw = append(s.raw, make([]byte, min(to, layout().Window)*y.RowBytes))
		s.comp, s.index, s.frontier = append(s.comp, comp), append(s.index, index), append(s.frontier, frontier)
	}
	return s
}

func (s *session) Put(kind segment.Kind, layer, row int, b []byte) error {
	y := layout().Layers[layer]
	switch kind {
	case segment.Compressed:
		return putRows(s.comp[layer], y.RowBytes, row, b)
	case segment.Indexer:
		return putRows(s.index[layer], y.IndexRowBytes, row, b)
	case segment.Raw:
		return putRows(s.raw[layer], y.RowBytes, row, b)
	case segment.Frontier:
		return putRows(s.frontier[layer], y.FrontierBytes(s.to), row, b)
	}
	return fmt.Errorf("rows of kind %v", kind)
}

// putRows copies whole rows to their place in a table.
func putRows(table []byte, rowBytes, row int, b []byte) error {
	if rowBytes == 0 || len(b) == 0 || len(b)%rowBytes != 0 || row*rowBytes+len(b) > len(table) {
		return fmt.Errorf("%d bytes for row %d: rows have %d bytes, the table %d", len(b), row, rowBytes, len(table))
	}
	copy(table[row*rowBytes:], b)
	return nil
}

func (s *session) Commit(tokens []int32) error {
	s.end("commit")
	if s.refuse != nil {
		return s.refuse
	}
	if len(tokens) != s.to {
		return fmt.Errorf("%d tokens for a session of %d", len(tokens), s.to)
	}
	s.tokens = tokens
	return nil
}

// Abort fills the buffers: a late reader would be a data race.
func (s *session) Abort() {
	s.end("abort")
	for _, bufs := range [][][]byte{s.comp, s.index, s.raw, s.frontier} {
		for _, b := range bufs {
			clear(b)
		}
	}
}

func (s *session) end(how string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != "" {
		panic("target ended twice: " + s.ended + ", " + how)
	}
	s.ended = how
}

// wrong compares a session with the true state after t[:s.to].
func (s *session) wrong(t talk) error {
	if s.ended != "commit" {
		return fmt.Errorf("session ended with %q", s.ended)
	}
	for i, id := range s.tokens {
		if id != t[i] {
			return fmt.Errorf("token %d is %d, want %d", i, id, t[i])
		}
	}
	want := t[:s.to].truth()
	for i := range layout().Layers {
		for what, pair := range map[string][2][]byte{"raw": {s.raw[i], want.Raw[i]}, "comp": {s.comp[i], want.Comp[i]},
			"index": {s.index[i], want.Index[i]}, "frontier": {s.frontier[i], want.Frontier[i]}} {
			if !bytes.Equal(pair[0], pair[1]) {
				return fmt.Errorf("%s of layer %d differs at %d tokens", what, i, s.to)
			}
		}
	}
	return nil
}

// tester is what testing.T and rapid.T have in common.
type tester interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
	Fatalf(string, ...any)
}

// world is a store under test, with everything around it.
type world struct {
	t    tester
	fs   vfs.FS
	opt  kvstore.Options
	s    *kvstore.Store
	mu   sync.Mutex
	log  []string
	now  time.Time
	tick time.Duration // that each look at the clock takes
}

// newWorld opens a store. Options may be changed before.
func newWorld(t tester, fsys vfs.FS, change ...func(*kvstore.Options)) *world {
	t.Helper()
	w := &world{t: t, fs: fsys, now: time.Unix(1_700_000_000, 0), tick: time.Millisecond}
	w.opt = kvstore.Options{FS: fsys, Dir: dir, Identity: [32]byte{1}, Layout: layout(), MinTokens: 1,
		QuarantineBytes: 1 << 20, BudgetBytes: 64 << 20, BootID: "boot-1", Readers: 3,
		RetryAfter: -1, Log: w.logf, Now: w.clock}
	for _, f := range change {
		f(&w.opt)
	}
	w.open()
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(w.tick)
	return w.now
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// logged returns how many log lines contain all of the words.
func (w *world) logged(words ...string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, line := range w.log {
		all := true
		for _, word := range words {
			all = all && strings.Contains(line, word)
		}
		if all {
			n++
		}
	}
	return n
}

func (w *world) dumpLog() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.log, "\n")
}

func (w *world) open() {
	w.t.Helper()
	s, err := kvstore.Open(w.opt)
	if err != nil {
		w.t.Fatal(err)
	}
	w.s = s
	w.t.Cleanup(func() { _ = s.Close(context.Background()) })
}

func (w *world) close() {
	w.t.Helper()
	if err := w.s.Close(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// reopen closes the store and opens a new one.
func (w *world) reopen(change ...func(*kvstore.Options)) {
	w.t.Helper()
	w.close()
	for _, f := range change {
		f(&w.opt)
	}
	w.open()
}

// killed opens the store that a new process finds after kill -9. The file system
// must be an errfs.Mem.
func (w *world) killed(change ...func(*kvstore.Options)) {
	w.t.Helper()
	w.fs = w.fs.(*errfs.Mem).KillClone()
	w.close() // of the old one, on its own file system
	w.opt.FS = w.fs
	for _, f := range change {
		f(&w.opt)
	}
	w.open()
}

// save stores the full segments and the tail of a talk and waits for the disk.
// It returns the ids of the chain.
func (w *world) save(t talk) []string {
	w.t.Helper()
	ids, err := w.trySave(t)
	if err != nil {
		w.t.Fatalf("save: %v\n%s", err, w.dumpLog())
	}
	return ids
}

func (w *world) trySave(t talk) (ids []string, err error) {
	parent := ""
	for from := 0; from < len(t); from += segTokens {
		id, err := w.s.Save(context.Background(), t.segment(parent, from, min(from+segTokens, len(t))))
		if err != nil {
			return ids, err
		}
		ids = append(ids, id)
		parent = id
	}
	return ids, w.s.Flush(context.Background())
}

// restore looks a prompt up and restores what is found. A wrong state is fatal.
// It returns the number of tokens.
func (w *world) restore(t talk) int {
	w.t.Helper()
	n, err := w.tryRestore(t)
	if err != nil && !errors.Is(err, kvstore.ErrMiss) {
		w.t.Fatalf("restore: %v\n%s", err, w.dumpLog())
	}
	return n
}

func (w *world) tryRestore(t talk) (int, error) {
	w.t.Helper()
	c := w.s.Lookup(t.text())
	if c.Empty() {
		return 0, kvstore.ErrMiss
	}
	if c.TextLen != c.Tokens*bytesOfTok {
		w.t.Fatalf("chain of %d tokens and %d bytes", c.Tokens, c.TextLen)
	}
	return w.restoreChain(c, t)
}

func (w *world) restoreChain(c kvstore.Chain, t talk) (int, error) {
	w.t.Helper()
	var last *session
	r, err := w.s.Restore(context.Background(), c, func(to int) (kvstore.Target, error) {
		if last != nil && last.ended != "abort" {
			w.t.Fatal("a second target before the first one was aborted")
		}
		last = newSession(to)
		return last, nil
	})
	if err != nil {
		if last != nil && last.ended != "abort" {
			w.t.Fatalf("failed restore leaves a target that is %q", last.ended)
		}
		return 0, err
	}
	if err := last.wrong(t); err != nil {
		w.t.Fatalf("WRONG: %v\n%s", err, w.dumpLog())
	}
	if r.Chain.Tokens != last.to || len(r.Tokens) != last.to || r.Chain.TextLen != last.to*bytesOfTok {
		w.t.Fatalf("restored %+v into %d tokens", r.Chain, last.to)
	}
	return last.to, nil
}

// file returns the path of a segment.
func file(id string) string { return path.Join(dir, "segments", id[:2], id+".kv") }

func (w *world) exists(name string) bool {
	_, err := w.fs.Lstat(name)
	return err == nil
}

// names returns the base names in a folder.
func (w *world) names(sub string) (list []string) {
	_ = w.fs.ReadDir(path.Join(dir, sub), func(e vfs.Entry) error {
		list = append(list, e.Name)
		return nil
	})
	return list
}

// quarantined returns the segments in quarantine, without their notes.
func (w *world) quarantined() (list []string) {
	for _, n := range w.names("quarantine") {
		if strings.HasSuffix(n, ".kv") {
			list = append(list, n)
		}
	}
	return list
}

// overwrite replaces a file's contents.
func (w *world) overwrite(name string, change func([]byte) []byte) {
	w.t.Helper()
	b, err := vfs.ReadFile(w.fs, name, 1<<30)
	if err != nil {
		w.t.Fatal(err)
	}
	put(w.t, w.fs, name, change(bytes.Clone(b)))
}

func put(t tester, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	if err := fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := errors.Join(fsys.MkdirAll(path.Dir(name)), vfs.WriteFileAtomic(fsys, name, data, true)); err != nil {
		t.Fatal(err)
	}
}

// arm installs fault rules for the rest of the test.
func (w *world) arm(texts ...string) {
	w.t.Helper()
	var rules []failpoint.Rule
	for _, text := range texts {
		r, err := failpoint.Parse(text)
		if err != nil {
			w.t.Fatal(err)
		}
		rules = append(rules, r)
	}
	if err := failpoint.Arm(rules, w.logf); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(failpoint.Disarm)
}

// fired returns how often the i-th armed rule has fired.
func fired(i int) int { return failpoint.Status()[i].Fired }

func size(t tester, fsys vfs.FS, name string) int64 {
	t.Helper()
	fi, err := fsys.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	return fi.Size()
}
