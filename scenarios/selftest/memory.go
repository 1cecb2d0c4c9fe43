package selftest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"ds4/faults"
	"ds4/faults/errfs"
	"ds4/reports"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/vfs"
	"ds4/scenarios"
)

const (
	memoryDir     = "/kv"
	segmentTokens = 16
	clonesPerStop = 4 // different losses tried for one crash point
	memoryBudget  = 64 << 20
)

// errHistory means that the history cannot be written at all.
var errHistory = errors.New("selftest: the store fails without a crash")

// Memory runs one repetition of a lane-memory scenario: a history of segments is
// written, the machine stops at a random file-system operation, loses any part
// of what was not synced, and the store is opened again on what is left. Then
// everything that had been acknowledged must be there, everything that is there
// must be exactly what was written, and no temporary file may be left.
func Memory(ctx context.Context, s *scenarios.Scenario, seed uint64) reports.Result {
	return memory(ctx, s, seed, kvstore.Unsafe{})
}

func memory(ctx context.Context, s *scenarios.Scenario, seed uint64, broken kvstore.Unsafe) reports.Result {
	start := time.Now()
	res := reports.Result{Scenario: s.ID, Title: s.Title, Origin: s.Origin, Lane: string(s.Lane), Tags: s.Tags,
		Seed: seed, Start: start, Verdict: reports.Pass, Outcome: string(faults.Recovered)}
	m := crasher{rng: rand.New(rand.NewPCG(seed, 1)), broken: broken}
	m.history = m.makeHistory(s.Memory.Segments)
	crashes, err := m.run(ctx, s.Memory.Crashes)
	switch {
	case errors.Is(err, errHistory) || ctx.Err() != nil:
		res.Verdict, res.Outcome, res.Reason = reports.Inconclusive, string(faults.Inconclusive), err.Error()
	case err != nil:
		res.Outcome = string(faults.Wrong)
		res.AddFailure("crash %d of seed %d: %v", crashes+1, seed, err)
	}
	res.DurationMS = reports.Milliseconds(time.Since(start))
	res.AddMetric("crashes", float64(crashes))
	return res
}

// crasher holds the history that is written again and again.
type crasher struct {
	rng     *rand.Rand
	broken  kvstore.Unsafe // what is wrong with the store, for the proof that the lane notices
	history []entry
	ops     int // file-system operations of the whole history
}

// entry is one segment of the history.
type entry struct {
	parent int // index in the history, -1 for a root
	seg    kvstore.Segment
	text   []byte // from the root on
}

func memoryLayout() segment.Layout {
	return segment.Layout{Vocab: 40, Window: 8, Layers: []segment.Layer{
		{RowBytes: 6},
		{Ratio: 4, RowBytes: 10, IndexRowBytes: 3, ClosedBytes: 17, OpenBytes: 6},
		{Ratio: 16, RowBytes: 10, OpenBytes: 5},
	}}
}

// makeHistory makes chains that branch now and then, with random contents.
func (m *crasher) makeHistory(n int) []entry {
	l := memoryLayout()
	var out []entry
	for i := range n {
		const branchOneIn = 4
		parent := i - 1
		if i > 0 && m.rng.IntN(branchOneIn) == 0 {
			parent = m.rng.IntN(i+1) - 1
		}
		e := entry{parent: parent}
		from := 0
		if parent >= 0 {
			from = out[parent].seg.To
		}
		e.seg = m.makeSegment(l, from, from+segmentTokens, i)
		if parent >= 0 {
			e.text = bytes.Clone(out[parent].text)
		}
		e.text = append(e.text, e.seg.Text...)
		out = append(out, e)
	}
	return out
}

func (m *crasher) makeSegment(l segment.Layout, from, to, number int) kvstore.Segment {
	fill := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(m.rng.Uint32())
		}
		return b
	}
	s := kvstore.Segment{From: from, To: to, Text: fmt.Appendf(nil, "<%d:%x>", number, fill(6))}
	for range to - from {
		s.Tokens = append(s.Tokens, m.rng.Int32N(int32(l.Vocab)))
	}
	for _, y := range l.Layers {
		s.Raw = append(s.Raw, fill(min(to, l.Window)*y.RowBytes))
		var comp, index, frontier []byte
		if y.Ratio > 0 {
			closed := to/y.Ratio - from/y.Ratio
			comp, index = fill(closed*y.RowBytes), fill(closed*y.IndexRowBytes)
		}
		frontier = fill(y.FrontierBytes(to))
		s.Comp, s.Index, s.Frontier = append(s.Comp, comp), append(s.Index, index), append(s.Frontier, frontier)
	}
	return s
}

// run stops the machine at the given number of random moments. It returns how
// many were survived.
func (m *crasher) run(ctx context.Context, crashes int) (done int, err error) {
	fs := errfs.Wrap(errfs.NewMem())
	if _, err := m.write(ctx, fs); err != nil {
		return 0, fmt.Errorf("%w: %w", errHistory, err)
	}
	for _, op := range errfs.Ops() {
		m.ops += fs.Count(op)
	}
	for done < crashes {
		if ctx.Err() != nil {
			return done, ctx.Err()
		}
		mem := errfs.NewMem()
		at := 1 + m.rng.IntN(m.ops)
		fs := errfs.Wrap(mem, errfs.MustParse(fmt.Sprintf("any:nth=%d:part=50%%:kill9", at)))
		durable, err := m.write(ctx, fs)
		if err != nil && !errors.Is(err, errfs.ErrCrashed) {
			return done, fmt.Errorf("at operation %d: %w", at, err)
		}
		for range clonesPerStop {
			if err := m.verify(ctx, mem.CrashClone(m.rng), durable); err != nil {
				return done, fmt.Errorf("at operation %d of %d: %w", at, m.ops, err)
			}
			if done++; done == crashes {
				break
			}
		}
	}
	return done, nil
}

func (m *crasher) open(fs *errfs.FS, mem *errfs.Mem) (*kvstore.Store, error) {
	opt := kvstore.Options{
		Dir: memoryDir, Identity: [32]byte{1}, Layout: memoryLayout(), BudgetBytes: memoryBudget, QuarantineBytes: memoryBudget / 4,
		MinTokens: 1, Readers: 2, BootID: "boot", Unsafe: m.broken, Log: func(string, ...any) {},
	}
	if fs != nil {
		opt.FS = fs
	} else {
		opt.FS = mem
	}
	return kvstore.Open(opt)
}

// write writes the history and returns how many of its segments the store has
// acknowledged as durable.
func (m *crasher) write(ctx context.Context, fs *errfs.FS) (durable int, err error) {
	s, err := m.open(fs, nil)
	if err != nil {
		return 0, fmt.Errorf("open: %w", err)
	}
	defer func() { _ = s.Close(ctx) }() // what it says after a crash is of no interest
	ids := make([]string, len(m.history))
	for i := range m.history {
		e := &m.history[i]
		seg := e.seg
		if e.parent >= 0 {
			seg.Parent = ids[e.parent]
		}
		if ids[i], err = s.Save(ctx, &seg); err != nil {
			return durable, fmt.Errorf("save: %w", errors.Join(err, crashed(fs)))
		}
		if err := s.Flush(ctx); err != nil {
			return durable, fmt.Errorf("flush: %w", errors.Join(err, crashed(fs)))
		}
		if fs.Fired() > 0 {
			return durable, errfs.ErrCrashed // the acknowledgement came from a dead machine
		}
		if s.Has(ids[i]) {
			durable = i + 1
		}
	}
	return durable, nil
}

func crashed(fs *errfs.FS) error {
	if fs.Fired() > 0 {
		return errfs.ErrCrashed
	}
	return nil
}

// verify opens the store on what a crash left.
func (m *crasher) verify(ctx context.Context, mem *errfs.Mem, durable int) error {
	s, err := m.open(nil, mem)
	if err != nil {
		return fmt.Errorf("open after the crash: %w", err)
	}
	defer func() { _ = s.Close(ctx) }()
	for i := range m.history {
		e := &m.history[i]
		// One more byte: the last token of a prompt is never restored.
		chain := s.Lookup(append(bytes.Clone(e.text), '!'))
		if i < durable && chain.TextLen != len(e.text) {
			return fmt.Errorf("segment %d was acknowledged, and %d of its %d bytes of text are found", i, chain.TextLen, len(e.text))
		}
		if chain.Empty() {
			continue
		}
		t := &target{layout: memoryLayout()}
		got, err := s.Restore(ctx, chain, func(to int) (kvstore.Target, error) { t.reset(to); return t, nil })
		switch {
		case errors.Is(err, kvstore.ErrMiss) && i >= durable:
			continue // torn, seen, and set aside
		case err != nil:
			return fmt.Errorf("restore of segment %d: %w", i, err)
		case i < durable && got.Chain.TextLen != len(e.text):
			return fmt.Errorf("segment %d was acknowledged, and a restore brings %d of its %d bytes back", i, got.Chain.TextLen, len(e.text))
		}
		if err := m.compare(t, i, got.Chain.Tokens); err != nil {
			return fmt.Errorf("restore of segment %d to %d: %w", i, got.Chain.Tokens, err)
		}
	}
	return noTemps(mem)
}

// compare checks the restored state of tokens [0, to) of the history's branch i.
func (m *crasher) compare(t *target, i, to int) error {
	for m.history[i].seg.To > to {
		i = m.history[i].parent
		if i < 0 {
			return fmt.Errorf("%d tokens are no boundary of the branch", to)
		}
	}
	last := &m.history[i].seg
	if last.To != to {
		return fmt.Errorf("%d tokens are no boundary of the branch", to)
	}
	for y := range t.raw {
		if !bytes.Equal(t.raw[y], last.Raw[y]) || !bytes.Equal(t.frontier[y], last.Frontier[y]) {
			return fmt.Errorf("raw window or frontier of layer %d is not what was written", y)
		}
	}
	for ; i >= 0; i = m.history[i].parent {
		s := &m.history[i].seg
		for y, layer := range t.layout.Layers {
			if layer.Ratio == 0 {
				continue
			}
			if !bytes.Equal(t.rows(t.comp[y], layer.Ratio, layer.RowBytes, s.From, s.To), s.Comp[y]) ||
				!bytes.Equal(t.rows(t.index[y], layer.Ratio, layer.IndexRowBytes, s.From, s.To), s.Index[y]) {
				return fmt.Errorf("rows of layer %d in [%d, %d) are not what was written", y, s.From, s.To)
			}
		}
		for k, tok := range s.Tokens {
			if t.tokens[s.From+k] != tok {
				return fmt.Errorf("token %d is not what was written", s.From+k)
			}
		}
	}
	return nil
}

func noTemps(mem *errfs.Mem) error {
	var left string
	err := mem.ReadDir(memoryDir+"/tmp", func(e vfs.Entry) error { left = e.Name; return nil })
	if err == nil && left != "" {
		return fmt.Errorf("temporary file %s is left after a restart", left)
	}
	return nil
}
