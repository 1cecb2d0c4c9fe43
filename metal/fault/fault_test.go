package fault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ds4/metal"
)

const (
	embed    = "graph embed tokens"
	verbatim = "Metal graph embed tokens failed: Internal Error (00000001:Internal Error)"
)

// bench is a wrapped toy with a buffer and what was logged.
type bench struct {
	t    *testing.T
	toy  *toy
	dev  metal.Device
	plan *Plan
	buf  metal.Buffer
	logs []string
}

func newBench(t *testing.T, spec string, opts ...Option) *bench {
	t.Helper()
	rules, err := Parse(spec)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{t: t, toy: &toy{generation: 1}}
	b.plan, err = NewPlan(rules, func(format string, args ...any) { b.logs = append(b.logs, fmt.Sprintf(format, args...)) }, opts...)
	if err != nil {
		t.Fatal(err)
	}
	b.dev = Wrap(b.toy, b.plan)
	if b.buf, err = b.dev.NewBuffer(256, "scratch"); err != nil {
		t.Fatal(err)
	}
	return b
}

// record encodes one marker "op<i>" and one fill of 16 bytes with value for each i.
func (b *bench) record(label string, dispatches int, value byte) metal.CommandBuffer {
	b.t.Helper()
	p, err := b.dev.Pipeline("fill")
	if err != nil {
		b.t.Fatal(err)
	}
	cb, err := b.dev.NewCommandBuffer(label)
	if err != nil {
		b.t.Fatal(err)
	}
	for i := range dispatches {
		cb.Marker(fmt.Sprintf("op%d", i))
		cb.Dispatch(p, metal.Size{}, []byte{value, 16}, metal.Binding{Buffer: b.buf, Offset: uint64(16 * i)})
	}
	return cb
}

// work records, commits and waits.
func (b *bench) work(label string, dispatches int, value byte) error {
	b.t.Helper()
	cb := b.record(label, dispatches, value)
	defer cb.Release()
	if err := cb.Commit(); err != nil {
		return err
	}
	return cb.Wait(context.Background())
}

func (b *bench) rebuild(level metal.Level) {
	b.t.Helper()
	if err := b.dev.Rebuild(level); err != nil {
		b.t.Fatal(err)
	}
}

func commandError(t *testing.T, err error) *metal.CommandError {
	t.Helper()
	var e *metal.CommandError
	if !errors.As(err, &e) {
		t.Fatalf("error is %v, want a CommandError", err)
	}
	return e
}

func TestVerbatimMessage(t *testing.T) {
	for _, at := range []string{"commit", "wait"} {
		b := newBench(t, "at="+at+",label=embed")
		err := b.work(embed, 2, 1)
		if err == nil || err.Error() != verbatim {
			t.Errorf("at=%s: error %q, want %q", at, err, verbatim)
		}
		e := commandError(t, err)
		if e.Code != metal.CodeInternal || e.IOGPU != 1 || e.LastOp != "op1" || e.Seq != 1 || e.Generation != 1 || e.Domain != metal.ErrorDomain {
			t.Errorf("at=%s: %s", at, e.Detail())
		}
	}
}

func TestWithoutFiringNothingChanges(t *testing.T) {
	b := newBench(t, "at=commit,label=^other$;at=wait,n=9;at=alloc,label=other")
	if err := b.work(embed, 3, 7); err != nil {
		t.Fatal(err)
	}
	if want := bytes.Repeat([]byte{7}, 48); !bytes.Equal(b.buf.Bytes()[:48], want) {
		t.Errorf("buffer holds %v", b.buf.Bytes()[:48])
	}
	if want := []string{embed + ":op0", embed + ":op1", embed + ":op2"}; !slices.Equal(b.toy.ran, want) {
		t.Errorf("ran %v, want %v", b.toy.ran, want)
	}
	cb := b.record(embed, 1, 1)
	if err := cb.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := cb.Commit(); err == nil {
		t.Error("second Commit succeeded")
	}
	if cb.Status() != metal.StatusCompleted || cb.GPUTime() != time.Millisecond {
		t.Errorf("status %v, time %v", cb.Status(), cb.GPUTime())
	}
	if b.plan.Counts()[1].Matched != 2 || b.plan.Counts()[0].Matched != 0 {
		t.Errorf("counts %+v", b.plan.Counts())
	}
	if err := b.record(embed, 1, 1).Wait(context.Background()); err == nil {
		t.Error("Wait without Commit succeeded")
	}
}

func TestLogsArmedThenFired(t *testing.T) {
	b := newBench(t, `at=commit,n=2,text="a, b"`)
	want := []string{`fault armed rule="at=commit,n=2,text=\"a, b\""`}
	_ = b.work("x", 1, 1)
	if !slices.Equal(b.logs, want) {
		t.Errorf("logs %q, want %q", b.logs, want)
	}
	_ = b.work("x", 1, 1)
	want = append(want, `fault fired rule="at=commit,n=2,text=\"a, b\"" n=1`)
	if !slices.Equal(b.logs, want) {
		t.Errorf("logs %q, want %q", b.logs, want)
	}
	if c := b.plan.Counts()[0]; c.Matched != 2 || c.Fired != 1 {
		t.Errorf("counts %+v", c)
	}
}

// TestCounting runs ten command buffers, with a rebuild after each failure.
func TestCounting(t *testing.T) {
	for spec, want := range map[string]string{
		"at=commit":                 "1111111111",
		"at=commit,n=3":             "0010000000",
		"at=wait,every=3":           "0010010010",
		"at=commit,times=2":         "1100000000",
		"at=wait,every=2,times=2":   "0101000000",
		"at=commit,n=2;at=wait,n=3": "0101000000", // the failed match is none of the second rule's
		"at=commit,prob=1,times=1":  "1000000000",
		"at=commit,prob=1e-9":       "0000000000",
	} {
		b := newBench(t, spec)
		got := ""
		for range 10 {
			if err := b.work("x", 1, 1); err != nil {
				got += "1"
				b.rebuild(metal.RebuildQueue)
			} else {
				got += "0"
			}
		}
		if got != want {
			t.Errorf("%s failed %s, want %s", spec, got, want)
		}
	}
}

func TestProbabilityIsSeeded(t *testing.T) {
	pattern := func(seed int) (s string) {
		b := newBench(t, fmt.Sprintf("at=commit,prob=0.5,seed=%d", seed))
		for range 64 {
			if err := b.work("x", 1, 1); err != nil {
				b.rebuild(metal.RebuildQueue)
				s += "1"
			} else {
				s += "0"
			}
		}
		return s
	}
	if a, again, other := pattern(1), pattern(1), pattern(2); a != again || a == other || strings.Count(a, "1") < 16 || strings.Count(a, "1") > 48 {
		t.Errorf("patterns %s, %s, %s", a, again, other)
	}
}

func TestScope(t *testing.T) {
	scope := metal.Scope{Phase: "prefill", Source: "disk", Chunk: 2, Range: "abc123", Entry: "e77"}
	for spec, fires := range map[string]bool{
		"at=commit,phase=prefill":        true,
		"at=commit,phase=decode":         false,
		"at=commit,phase=canary|prefill": true,
		"at=wait,source=disk":            true,
		"at=wait,source=cold":            false,
		"at=commit,chunk=2":              true,
		"at=commit,chunk=1":              false,
		"at=commit,range=abc":            true,
		"at=commit,range=bc":             false,
		"at=commit,entry=*":              true,
		"at=commit,entry=e7,range=*":     true,
		"at=commit,entry=e8":             false,
		"at=commit,op=op0":               true,
		"at=commit,op=op9":               false,
		"at=commit,label=em.*tok":        true,
		"at=commit,label=^tok":           false,
	} {
		b := newBench(t, spec)
		metal.SetScope(b.dev, scope)
		if err := b.work(embed, 2, 1); (err != nil) != fires {
			t.Errorf("%s: error %v, want one: %t", spec, err, fires)
		}
		if b.toy.scope != scope {
			t.Errorf("inner scope is %+v", b.toy.scope)
		}
	}
	// The scope of a command buffer is that of its making.
	b := newBench(t, "at=commit,source=disk;at=commit,entry=*")
	cb := b.record(embed, 1, 1)
	metal.SetScope(b.dev, scope)
	if err := cb.Commit(); err != nil {
		t.Errorf("older command buffer: %v", err)
	}
}

func TestPoisonUntilRebuild(t *testing.T) {
	for _, spec := range []string{"at=commit,n=1", "at=wait,n=1", "at=wait,n=1,effect=all,sticky=queue"} {
		b := newBench(t, spec)
		stale := b.record("stale", 1, 1)
		first := commandError(t, b.work(embed, 1, 1))
		ran := len(b.toy.ran)
		for range 2 {
			err := b.work("next", 1, 1)
			if !errors.Is(err, metal.ErrPoisoned) || commandError(t, err) != first {
				t.Errorf("%s: poisoned device answers %v", spec, err)
			}
		}
		if len(b.toy.ran) != ran {
			t.Errorf("%s: a poisoned device ran %v", spec, b.toy.ran[ran:])
		}
		b.rebuild(metal.RebuildQueue)
		if err := stale.Commit(); !errors.Is(err, metal.ErrStale) {
			t.Errorf("%s: older command buffer: %v", spec, err)
		}
		if err := b.work("next", 1, 1); err != nil {
			t.Errorf("%s: after Rebuild: %v", spec, err)
		}
	}
}

func TestSticky(t *testing.T) {
	for _, at := range []string{"commit", "wait"} {
		for sticky, cured := range map[string][3]bool{ // by queue, by device, by another device of the plan
			"no": {true, true, true}, "queue": {true, true, true}, "device": {false, true, true}, "process": {false, false, false},
		} {
			for level, want := range map[metal.Level]bool{metal.RebuildQueue: cured[0], metal.RebuildDevice: cured[1]} {
				b := newBench(t, fmt.Sprintf("at=%s,n=1,code=2,sticky=%s", at, sticky))
				first := commandError(t, b.work("first", 1, 1))
				for round := range 2 {
					b.rebuild(level)
					err := b.work("later", 1, 1)
					if (err == nil) != want {
						t.Fatalf("at=%s sticky=%s: after rebuild %d: %v", at, sticky, level, err)
					}
					if err == nil {
						continue
					}
					e := commandError(t, err)
					if errors.Is(err, metal.ErrPoisoned) || e == first || e.Label != "later" || e.Code != metal.CodeTimeout {
						t.Errorf("at=%s sticky=%s round %d: %v", at, sticky, round, err)
					}
				}
				b.dev = Wrap(&toy{generation: 1}, b.plan)
				var err error
				if b.buf, err = b.dev.NewBuffer(256, ""); err != nil {
					t.Fatal(err)
				}
				if err := b.work("elsewhere", 1, 1); (err == nil) != cured[2] {
					t.Errorf("at=%s sticky=%s: another device: %v", at, sticky, err)
				}
				if c := b.plan.Counts()[0]; c.Fired != 1 {
					t.Errorf("at=%s sticky=%s: fired %d times", at, sticky, c.Fired)
				}
			}
		}
	}
}

func TestEffects(t *testing.T) {
	for _, at := range []string{"commit", "wait"} {
		for effect, ran := range map[string]int{
			"none": 0, "all": 4, "partial": 2, "partial,first=3": 3, "partial,first=99": 4, "partial,op=op1": 1, "scramble": 4,
		} {
			b := newBench(t, fmt.Sprintf("at=%s,label=bad,effect=%s", at, effect))
			if err := b.work("good", 4, 1); err != nil {
				t.Fatal(err)
			}
			before := slices.Clone(b.buf.Bytes())
			b.toy.ran = nil
			e := commandError(t, b.work("bad", 4, 9))
			if len(b.toy.ran) != ran {
				t.Errorf("at=%s effect=%s ran %d dispatches, want %d", at, effect, len(b.toy.ran), ran)
			}
			if strings.Contains(effect, "op=op1") && e.LastOp != "op1" {
				t.Errorf("at=%s effect=%s: last op %q", at, effect, e.LastOp)
			}
			for i, v := range b.buf.Bytes() {
				want := before[i]
				if i < 16*ran {
					want = 9
				}
				if effect == "scramble" && i < 64 {
					if v == 9 {
						t.Fatalf("at=%s: byte %d still has the right value", at, i)
					}
				} else if v != want {
					t.Fatalf("at=%s effect=%s: byte %d is %d, want %d", at, effect, i, v, want)
				}
			}
		}
	}
}

func TestScrambleSparesWhatWasNotWritten(t *testing.T) {
	b := newBench(t, "at=wait,label=bad,effect=scramble")
	weights := bytes.Repeat([]byte{5}, 64)
	wrapped, err := b.dev.WrapBytes(weights, "weights")
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.buf.Bytes() {
		b.buf.Bytes()[i] = byte(i)
	}
	before := slices.Clone(b.buf.Bytes())
	cb := b.record("bad", 1, 200) // writes bytes 0..15
	p, err := b.dev.Pipeline("fill")
	if err != nil {
		t.Fatal(err)
	}
	cb.Dispatch(p, metal.Size{}, []byte{6, 8}, metal.Binding{Buffer: wrapped})
	if err := cb.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := cb.Wait(context.Background()); err == nil {
		t.Fatal("no error")
	}
	if !bytes.Equal(b.buf.Bytes()[16:], before[16:]) {
		t.Error("bytes that no kernel wrote changed")
	}
	for i, v := range b.buf.Bytes()[:16] {
		if v == 200 {
			t.Errorf("byte %d still has the right value", i)
		}
	}
	if !bytes.Equal(weights[:9], []byte{6, 6, 6, 6, 6, 6, 6, 6, 5}) {
		t.Errorf("mapped memory holds %v: the wrapper must leave it to the driver", weights[:9])
	}
}

func TestResources(t *testing.T) {
	b := newBench(t, "at=alloc,label=kv,text=no room;at=wrap,label=weights;at=pipeline,label=fill,n=2")
	if _, err := b.dev.NewBuffer(8, "kv rows"); !errors.Is(err, metal.ErrOutOfMemory) || !errors.Is(err, ErrInjected) || !strings.Contains(err.Error(), "no room") {
		t.Errorf("alloc: %v", err)
	}
	if _, err := b.dev.NewBuffer(8, "other"); err != nil {
		t.Errorf("alloc: %v", err)
	}
	if _, err := b.dev.WrapBytes(nil, "weights"); !errors.Is(err, ErrInjected) {
		t.Errorf("wrap: %v", err)
	}
	if _, err := b.dev.WrapBytes(nil, "other"); err != nil {
		t.Errorf("wrap: %v", err)
	}
	if _, err := b.dev.Pipeline("fill"); err != nil {
		t.Errorf("pipeline: %v", err)
	}
	if _, err := b.dev.Pipeline("fill"); !errors.Is(err, ErrInjected) {
		t.Errorf("pipeline: %v", err)
	}
	if err := b.work("x", 1, 1); err != nil {
		t.Errorf("a failed allocation poisons nothing: %v", err)
	}
}

func TestHangEndsWithContextOrRebuild(t *testing.T) {
	b := newBench(t, "at=wait,n=1,hang=true,sticky=queue")
	cb := b.record("x", 1, 1)
	if err := cb.Commit(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for range 2 {
		if err := cb.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("Wait returns %v", err)
		}
	}
	if cb.Status() >= metal.StatusCompleted {
		t.Errorf("status %v of work that hangs", cb.Status())
	}
	next := b.record("y", 1, 1) // the queue is stuck, so this hangs too
	if err := next.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := next.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Wait returns %v", err)
	}
	b.rebuild(metal.RebuildQueue)
	if err := cb.Wait(context.Background()); err == nil {
		t.Error("work that hung succeeded")
	}
	if err := b.work("z", 1, 1); err != nil {
		t.Errorf("after Rebuild: %v", err)
	}
}

func TestDelayAndPass(t *testing.T) {
	for _, at := range []string{"commit", "wait"} {
		b := newBench(t, "at="+at+",delay=1ms,pass=true")
		start := time.Now()
		if err := b.work("x", 1, 1); err != nil {
			t.Errorf("at=%s: %v", at, err)
		}
		if d := time.Since(start); d < time.Millisecond || len(b.toy.ran) != 1 || b.plan.Counts()[0].Fired != 1 {
			t.Errorf("at=%s: took %v, ran %v", at, d, b.toy.ran)
		}
	}
	b := newBench(t, "at=wait,delay=1h")
	cb := b.record("x", 1, 1)
	if err := cb.Commit(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := cb.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("delayed Wait returns %v", err)
	}
}

func TestPanicAndKill(t *testing.T) {
	killed := 0
	b := newBench(t, "at=commit,n=1,panic=true;at=wait,n=1,kill=true", WithKill(func() { killed++ }))
	func() {
		defer func() {
			if r := recover(); r == nil || len(b.logs) != 3 {
				t.Errorf("recovered %v, logs %q", r, b.logs)
			}
		}()
		_ = b.work("x", 1, 1)
	}()
	if err := b.work("x", 1, 1); err == nil || killed != 1 {
		t.Errorf("killed %d times, error %v", killed, err)
	}
}

func TestDriverErrorsWin(t *testing.T) {
	b := newBench(t, "at=wait,effect=all")
	real := metal.NewCommandError("x", metal.CodePageFault, "real")
	b.toy.failNext = real
	if err := b.work("x", 1, 1); err != error(real) {
		t.Errorf("got %v, want the driver's error", err)
	}
}

func TestPlanRefusesBadRules(t *testing.T) {
	if _, err := NewPlan([]Rule{{Label: "("}}, nil); !errors.Is(err, ErrRule) {
		t.Errorf("got %v", err)
	}
	if _, err := NewPlan(make([]Rule, MaxRules+1), nil); !errors.Is(err, ErrRule) {
		t.Errorf("got %v", err)
	}
	p, err := NewPlan([]Rule{{Origin: "prefill.embed=err"}}, nil)
	if err != nil || p.Counts()[0].Rule != "prefill.embed=err" {
		t.Errorf("got %+v, %v", p.Counts(), err)
	}
}
