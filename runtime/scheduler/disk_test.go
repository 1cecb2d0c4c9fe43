package scheduler

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"ds4/metal/cpu"
	"ds4/runtime/chat"
	"ds4/runtime/engine"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/segment"
	"ds4/runtime/model"
	"ds4/runtime/vfs"
)

// layout is that of the random model, for stores.
func layout(t *testing.T) segment.Layout {
	t.Helper()
	l, err := random()
	if err != nil {
		t.Fatal(err)
	}
	dev, err := cpu.New(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	eng, err := engine.New(l.model, dev, engine.Options{ContextTokens: testContext, ChunkTokens: testChunk, Numerics: model.Production})
	if err != nil {
		t.Fatal(err)
	}
	defer eng.Close()
	return eng.Layout()
}

// world is a cache folder that outlives servers.
type world struct {
	t   *testing.T
	dir string
	lay segment.Layout
}

func newWorld(t *testing.T) *world { return &world{t: t, dir: t.TempDir(), lay: layout(t)} }

// filledWorld is a folder in which a server has answered longChat and stopped.
// The work is done once, every test gets a copy.
func filledWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	if template.fs == nil {
		w.fill(longChat())
		template.fs = fstest.MapFS{}
		err := fs.WalkDir(os.DirFS(w.dir), ".", func(name string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			data, err := os.ReadFile(filepath.Join(w.dir, name))
			template.fs[name] = &fstest.MapFile{Data: data, Mode: 0o600}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	if err := os.CopyFS(w.dir, template.fs); err != nil {
		t.Fatal(err)
	}
	return w
}

var template struct{ fs fstest.MapFS }

// serve starts a scheduler on the folder. Its stop ends both in order.
func (w *world) serve(opt rigOptions) *rig {
	w.t.Helper()
	log := &logbook{t: w.t}
	store, err := kvstore.Open(kvstore.Options{
		FS: vfs.OS, Dir: w.dir, Identity: sha256.Sum256([]byte("test")), Layout: w.lay,
		ContextTokens: cmp.Or(opt.context, testContext), MinTokens: 32, QuarantineBytes: 64 << 20, Sync: kvstore.SyncNone, Log: log.printf,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	opt.store = store
	r := newRig(w.t, opt)
	log.also = r.log
	stop := r.down
	r.down = func() {
		stop()
		if err := store.Close(context.Background()); err != nil {
			w.t.Errorf("store: %v", err)
		}
	}
	w.t.Cleanup(r.down)
	return r
}

// fill lets a first server answer requests and stop.
func (w *world) fill(list ...*Request) {
	w.t.Helper()
	r := w.serve(rigOptions{})
	for _, q := range list {
		r.good(q)
	}
	r.down()
}

// noMarkers waits until no restore is marked as running.
func (w *world) noMarkers() {
	w.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		list, err := os.ReadDir(filepath.Join(w.dir, "inflight"))
		if err == nil && len(list) == 0 {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("markers %v, %v", list, err)
		}
	}
}

func (r *rig) flush() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	if err := r.store.Flush(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func equalAnswers(t *testing.T, got reply, q *Request) {
	t.Helper()
	if want := cold(t, q); got.text != want.text || got.reasoning != want.reasoning {
		t.Errorf("got %q %q, cold %q %q", got.reasoning, got.text, want.reasoning, want.text)
	}
}

// longChat takes one full segment and a tail; the answer makes a second tail.
func longChat() *Request { return ask(chat.None, words(1, 150)) }

func TestRestoredEqualsCold(t *testing.T) {
	w := filledWorld(t)
	q := longChat()
	r := w.serve(rigOptions{})
	a := r.good(q)
	equalAnswers(t, a, q)
	res := a.result
	// The full segment and the first tail: only the last token is left.
	if res.Source != SourceDisk || res.EvaluatedTokens != 1 || res.RestoredTokens != res.PromptTokens-1 || res.Attempts != 1 {
		t.Errorf("got %+v", res)
	}
	if st := r.store.Stats(); st.Lookups != 1 || st.Hits != 1 {
		t.Errorf("one prompt counts as %d lookups, %d hits", st.Lookups, st.Hits)
	}
	r.log.want(`^chat ctx=\d+\.\.\d+:1 src=disk-text prompt start$`, 1)
	r.log.want(`^kv cache hit text tokens=\d+ `, 1)
	// The conversation grows: its new segments follow the full ones, not the tail.
	next := ask(chat.None, words(1, 150), a.text, words(2, 110))
	b := r.good(next)
	if b.result.Source == SourceMemoryToken {
		equalAnswers(t, b, next)
	}
	r.flush()
	ids := map[string]kvstore.Entry{}
	for _, e := range r.store.List() {
		ids[e.ID] = e
	}
	for _, e := range ids {
		p, ok := ids[e.Parent]
		if e.From > 0 && (!ok || p.To != e.From || p.To%testSegment != 0 && e.To%testSegment == 0) {
			t.Errorf("segment %d..%d follows %d..%d", e.From, e.To, p.From, p.To)
		}
	}
	r.down()
	r = w.serve(rigOptions{})
	if c := r.good(next); c.text != b.text || c.result.RestoredTokens < 2*testSegment {
		t.Errorf("got %q %+v, before %q", c.text, c.result, b.text)
	}
}

// TestThinkingIsReused: an answer with hidden reasoning is saved where the next
// turn can go on.
func TestThinkingIsReused(t *testing.T) {
	w := newWorld(t)
	q := ask(chat.High, words(1, 60))
	w.fill(q)
	r := w.serve(rigOptions{})
	a := r.good(q)
	equalAnswers(t, a, q)
	next := ask(chat.High, words(1, 60), a.text, "Go on.")
	r.down()
	r = w.serve(rigOptions{})
	b := r.good(next)
	equalAnswers(t, b, next)
	if res := b.result; res.Source != SourceDisk || res.RestoredTokens < 60 {
		t.Errorf("got %+v", res)
	}
	r.down()
	r = w.serve(rigOptions{})
	if res := r.good(ask(chat.High, words(1, 60), a.text, "Go on.", b.text, "More.")).result; res.RestoredTokens < b.result.PromptTokens-1 {
		t.Errorf("the third turn found only %d of the second's %d tokens", res.RestoredTokens, b.result.PromptTokens)
	}
}

// TestSampledTokensComeBack: an answer whose tokens are not those of its text is
// found again after a restart, up to its end, and continued as the live session
// would have been.
func TestSampledTokensComeBack(t *testing.T) {
	for seed := range 20 {
		first := ask(chat.None, words(seed, 150))
		first.MaxTokens = 12
		w := newWorld(t)
		r := w.serve(rigOptions{})
		a := r.good(first)
		r.down()
		next := ask(chat.None, words(seed, 150), a.text, "Go on.")
		r = w.serve(rigOptions{})
		got := r.good(next).result
		r.down()

		live := newWorld(t).serve(rigOptions{})
		live.good(first)
		want := live.good(next)
		if want.result.Source != SourceMemoryText {
			live.down()
			continue // the model said what could not be repeated, or had no choice
		}
		if got.Source != SourceDisk || got.CachedTokens != want.result.CachedTokens {
			t.Errorf("seed %d: %s brings %d tokens back, the live session had %d", seed, got.Source, got.CachedTokens, want.result.CachedTokens)
		}
		return
	}
	t.Fatal("no answer has tokens of its own")
}

// TestSamePromptAddsNoFile: who asks the same after a restart finds the end of
// the first answer on disk, and does not save it again behind another parent.
func TestSamePromptAddsNoFile(t *testing.T) {
	w := filledWorld(t)
	r := w.serve(rigOptions{})
	before := len(r.store.List())
	r.good(longChat())
	r.down()
	r = w.serve(rigOptions{})
	if after := len(r.store.List()); after != before {
		t.Errorf("%d segments, %d before", after, before)
	}
}

// TestEvictedConversationComesBack from disk when its slot is needed.
func TestEvictedConversationComesBack(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{config: func(c *Config) { c.Sessions = 1 }})
	a, b := ask(chat.None, words(1, 60)), ask(chat.None, words(2, 60))
	r.good(a)
	r.good(b)
	got := r.good(a)
	equalAnswers(t, got, a)
	if got.result.Source != SourceDisk {
		t.Errorf("got %+v", got.result)
	}
}

// TestCutInsideAWord: a segment ends between two tokens of a prompt; another
// prompt has the same text so far, but goes on so that its tokens differ before
// the cut. The segment must not be used.
func TestCutInsideAWord(t *testing.T) {
	l, err := embedded()
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	a, b := twins(t, l, testSegment)
	w.fill(a)
	r := w.serve(rigOptions{})
	got := r.good(b)
	equalAnswers(t, got, b)
	if got.result.Source == SourceDisk && got.result.RestoredTokens >= testSegment {
		t.Errorf("got %+v", got.result)
	}
	r.log.want("kv cache hit text tokens=128 ", 1) // it was found, and refused
}

// twins finds two prompts whose texts agree up to the end of token n of the
// first, and whose tokens do not.
func twins(t *testing.T, l *loaded, n int) (a, b *Request) {
	t.Helper()
	for pad := range 64 {
		a = ask(chat.None, words(3, n-24)+strings.Repeat("x ", pad)+"internationalization of interfaces")
		tokens := chat.Tokens(l.tok, a.Prompt)
		if len(tokens) <= n {
			continue
		}
		var text []byte
		for _, id := range tokens[:n] {
			text = l.tok.CacheText(text, id)
		}
		user := text[bytes.LastIndexByte(text, '>')+1:]
		for _, tail := range []string{"s", "e", "al", "ing", "tion", "ed", "n", "t", "er"} {
			b = ask(chat.None, string(user)+tail)
			other := chat.Tokens(l.tok, b.Prompt)
			if bytes.HasPrefix(b.Prompt.CacheText(), text) && commonTokens(tokens[:n], other) < n {
				return a, b
			}
		}
	}
	t.Fatal("no such prompts")
	return nil, nil
}

func TestPoisonedChainIsConvicted(t *testing.T) {
	for _, inline := range []bool{true, false} {
		w := filledWorld(t)
		q := longChat()
		r := w.serve(rigOptions{
			faults: "at=wait,label=^graph embed tokens$,source=disk",
			config: func(c *Config) { c.InlineRetry = inline },
		})
		if !inline {
			f := r.bad(q)
			if f.Code != CodePrefillFailed || f.Attempt != 1 ||
				f.Message != "cpu resumed prefill failed while extending checkpoint: Metal graph embed tokens failed: "+seedText {
				t.Errorf("got %+v", f)
			}
			if n := r.store.Stats().Withheld; n != 2 {
				t.Errorf("%d segments withheld", n)
			}
		}
		a := r.good(q)
		equalAnswers(t, a, q)
		if want := map[bool]int{true: 2, false: 1}[inline]; a.result.Attempts != want || a.result.Source != SourceCold {
			t.Errorf("inline=%v: %+v", inline, a.result)
		}
		if r.fired(0) != 1 {
			t.Errorf("the chain was tried %d times", r.fired(0))
		}
		r.log.want("kv cache convicted", 1)
		r.log.wait("kv cache quarantined", 1)
		if st := r.Stats(); st.Convicted != 1 || r.store.Stats().QuarantineFiles != 1 {
			t.Errorf("inline=%v: %+v %+v", inline, st, r.store.Stats())
		}
		r.down()
	}
}

// TestSuccessAbsolves: a chain with a strike that works is clean again, before
// the answer ends.
func TestSuccessAbsolves(t *testing.T) {
	w := filledWorld(t)
	q := longChat()
	r := w.serve(rigOptions{faults: "at=wait,phase=decode,n=1"})
	text := q.Prompt.CacheText()
	chain := r.store.Lookup(text[:len(text)-1])
	r.store.Strike(chain.IDs, "test")
	r.bad(q) // only the decode fails: of a prefill from disk that worked
	if len(chain.IDs) != 2 || r.fired(0) != 1 {
		t.Fatalf("chain %+v, fired %d", chain, r.fired(0))
	}
	for _, e := range r.store.List() {
		if slices.Contains(chain.IDs, e.ID) && e.Strikes != 1 { // that of the probation, not two
			t.Errorf("segment %d..%d has %d strikes", e.From, e.To, e.Strikes)
		}
	}
}

// TestOutageKeepsTheFiles is A3: a device that fails for everything costs not a
// single segment, and afterwards they are used again.
func TestOutageKeepsTheFiles(t *testing.T) {
	w := filledWorld(t)
	q := longChat()
	r := w.serve(rigOptions{faults: "at=wait,label=^graph embed tokens$,phase=prefill|canary,times=4"})
	before := r.store.Stats().Segments
	if f := r.bad(q); f.Attempt != 2 || !f.Retryable {
		t.Errorf("got %+v", f) // from disk, then cold in the same request
	}
	if f := r.bad(q); f.Attempt != 3 || f.Code != CodeContextCleared {
		t.Errorf("got %+v", f)
	}
	r.log.want("limit reached range=.* failures=3 action=cleared withheld=2 ", 1)
	r.advance(canaryFirst)
	r.log.wait("canary failed", 1)
	r.advance(2 * canaryFirst)
	r.log.wait("canary passed", 1)
	equalAnswers(t, r.good(q), q)
	st := r.store.Stats()
	if st.Segments != before || st.QuarantineFiles != 0 || st.Withheld != 0 {
		t.Errorf("store %+v, %d segments before", st, before)
	}
	r.down()
	if res := w.serve(rigOptions{}).good(q).result; res.Source != SourceDisk {
		t.Errorf("the files are not used any more: %+v", res)
	}
}

// TestDecodeFailureOnRestoredState is A10.
func TestDecodeFailureOnRestoredState(t *testing.T) {
	w := filledWorld(t)
	q := longChat()
	r := w.serve(rigOptions{faults: "at=wait,phase=decode,source=disk,n=1"})
	f := r.bad(q)
	if f.Attempt != 1 || !f.Retryable || r.store.Stats().Withheld != 2 {
		t.Errorf("got %+v, store %+v", f, r.store.Stats())
	}
	a := r.good(q)
	equalAnswers(t, a, q)
	if a.result.Source != SourceCold || r.Stats().Convicted != 1 {
		t.Errorf("got %+v, stats %+v", a.result, r.Stats())
	}
}

// TestDamageIsNotAFailure: damage, and a disk that fails or hangs in any way,
// costs a cold prefill, never the answer.
func TestDamageIsNotAFailure(t *testing.T) {
	q := longChat()
	for _, rule := range []string{
		"kv.inflight=eio",
		"kv.payload.read=eio",
		"kv.payload.read=hang",
		"kv.text.read=short(3)",
		"kv.payload.corrupt=flip(1000)", // the last: it costs the file
	} {
		t.Run(rule, func(t *testing.T) {
			w := filledWorld(t)
			r := w.serve(rigOptions{config: func(c *Config) { c.RestoreMin = 50 * time.Millisecond }})
			r.good(ask(chat.None, words(5, 25))) // so that the pace is known
			arm(t, r, rule)
			a := r.good(q)
			equalAnswers(t, a, q)
			r.log.wait("fault fired", 1)
			w.noMarkers()
			if st := r.Stats(); st.MaxStreak != 0 || st.Failures[classDevice] != 0 {
				t.Errorf("stats %+v", st)
			}
			disarm()
			r.down()
		})
	}
}

// TestCancelledRestoreIsNoStrike: a client that goes while its prefix is read
// leaves no marker and no strike.
func TestCancelledRestoreIsNoStrike(t *testing.T) {
	w := filledWorld(t)
	q := longChat()
	r := w.serve(rigOptions{config: func(c *Config) { c.RestoreMin = time.Minute }})
	arm(t, r, "kv.payload.read=delay(10s):times=1")
	ctx, cancel := context.WithCancel(t.Context())
	ch := r.start(ctx, q)
	r.log.wait("fault fired", 1)
	// Others go on meanwhile.
	r.good(ask(chat.None, "hello"))
	cancel()
	if a := collect(ch); !errors.Is(a.err, context.Canceled) {
		t.Errorf("got %+v", a)
	}
	disarm()
	w.noMarkers()
	for _, e := range r.store.List() {
		if e.Strikes != 0 {
			t.Errorf("strike on %+v", e)
		}
	}
	if a := r.good(q); a.result.Source != SourceDisk {
		t.Errorf("got %+v", a.result)
	}
	r.down()
	if left := w.serve(rigOptions{}).log.find("strike"); left != nil {
		t.Error(left)
	}
}

// TestMarkerTellsThePhase: the marker is written a second time when the work on the
// restored prefix begins, and a failure of that costs nothing.
func TestMarkerTellsThePhase(t *testing.T) {
	w := filledWorld(t)
	r := w.serve(rigOptions{})
	arm(t, r, "kv.inflight=eio:nth=2")
	if a := r.good(longChat()); a.result.Source != SourceDisk {
		t.Errorf("got %+v", a.result)
	}
	w.noMarkers()
	r.log.want("fault fired", 1)
}

// TestShutdownSavesARunningPrefill is C8.
func TestShutdownSavesARunningPrefill(t *testing.T) {
	w := newWorld(t)
	q := ask(chat.None, words(1, 280))
	r := w.serve(rigOptions{})
	ch := r.start(t.Context(), q)
	for e := range ch {
		if e.Kind == EventPrefill && e.Done >= 2*testChunk {
			break
		}
	}
	r.down()
	if a := collect(ch); !errors.Is(a.err, ErrShuttingDown) {
		t.Fatalf("got %+v", a)
	}
	r = w.serve(rigOptions{})
	a := r.good(q)
	equalAnswers(t, a, q)
	if a.result.RestoredTokens < 2*testChunk {
		t.Errorf("got %+v", a.result)
	}
}

func TestShutdownSaveCanFail(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{})
	r.good(ask(chat.None, "hello there, this is a question that is long enough to be saved at the end of all things"))
	arm(t, r, "shutdown.save=err(no)")
	r.down()
	r.log.want(`kv cache not saved at shutdown: 1 of 1 sessions \(tokens=\d+: no\)`, 1)
}

func TestRecoveryOffRestoresAgainAndAgain(t *testing.T) {
	w := filledWorld(t)
	q := longChat()
	r := w.serve(rigOptions{
		faults: "at=wait,label=^graph embed tokens$,source=disk",
		config: func(c *Config) { c.Unsafe.RecoveryOff = true },
	})
	for range 4 {
		r.bad(q)
	}
	if n := r.fired(0); n != 4 {
		t.Errorf("the chain was tried %d times", n)
	}
}

func TestClearKV(t *testing.T) {
	w := filledWorld(t)
	q := longChat()
	r := w.serve(rigOptions{})
	if err := r.ClearKV(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := r.good(q); a.result.Source != SourceCold {
		t.Errorf("got %+v", a.result)
	}
	if err := r.ClearKV(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := r.good(q); a.result.Source != SourceCold {
		t.Errorf("live sessions survived: %+v", a.result)
	}
}
