package scheduler

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/kvstore"
	"ds4/runtime/vfs"
)

// The conversation of these tests: five full segments and a tail.
func manySegments() *Request { return ask(chat.None, words(3, 5*testSegment+50)) }

// chainOf lists the full segments of a folder with one conversation.
func (w *world) chainOf(r *rig) []kvstore.Entry {
	w.t.Helper()
	var list []kvstore.Entry
	for _, e := range r.store.List() {
		if e.To%testSegment == 0 {
			list = append(list, e)
		}
	}
	slices.SortFunc(list, func(a, b kvstore.Entry) int { return a.From - b.From })
	if len(list) != 5 {
		w.t.Fatalf("%d full segments, want 5", len(list))
	}
	return list
}

func (w *world) file(e kvstore.Entry) string {
	return filepath.Join(w.dir, "segments", e.ID[:2], e.ID+".kv")
}

// flip damages the text of a segment, which every restore reads.
func (w *world) flip(e kvstore.Entry) {
	w.t.Helper()
	data, err := os.ReadFile(w.file(e))
	if err != nil {
		w.t.Fatal(err)
	}
	d, err := kvstore.DumpFile(vfs.OS, w.file(e))
	if err != nil {
		w.t.Fatal(err)
	}
	data[d.Sections[0].Offset] ^= 1
	if err := os.WriteFile(w.file(e), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestDamageCostsOneSegment: whichever full segment of a conversation is damaged
// or gone, before the start or while the server runs, only that one is evaluated
// again, and the answer is the cold one.
func TestDamageCostsOneSegment(t *testing.T) {
	w := newWorld(t)
	q := manySegments()
	w.fill(q)
	for i := range 5 {
		for _, how := range []string{"gone before the start", "damaged while it runs"} {
			t.Run(how, func(t *testing.T) {
				v := &world{t: t, dir: t.TempDir(), lay: w.lay}
				if err := os.CopyFS(v.dir, os.DirFS(w.dir)); err != nil {
					t.Fatal(err)
				}
				r := v.serve(rigOptions{})
				e := v.chainOf(r)[i]
				if how == "damaged while it runs" {
					v.flip(e)
				} else {
					r.down()
					if err := os.Remove(v.file(e)); err != nil {
						t.Fatal(err)
					}
					r = v.serve(rigOptions{})
				}
				a := r.good(q)
				equalAnswers(t, a, q)
				res := a.result
				if res.EvaluatedTokens != testSegment+1 || res.RestoredTokens != res.PromptTokens-testSegment-1 || res.Attempts > 2 {
					t.Errorf("segment %d: %+v", i, res)
				}
				r.log.want("joined what is stored from ", 1)
				v.noMarkers()
				r.down()
				// Nothing is missing any more.
				if res := v.serve(rigOptions{}).good(q).result; res.EvaluatedTokens != 1 {
					t.Errorf("after that %+v", res)
				}
			})
		}
	}
}

// TestRejoinThatFails: what cannot be read is evaluated, from where the request
// stands.
func TestRejoinThatFails(t *testing.T) {
	w := newWorld(t)
	q := manySegments()
	w.fill(q)
	r := w.serve(rigOptions{})
	list := w.chainOf(r)
	w.flip(list[1])
	w.flip(list[2])
	a := r.good(q)
	equalAnswers(t, a, q)
	if res := a.result; res.RestoredTokens != testSegment || res.EvaluatedTokens != res.PromptTokens-testSegment || res.Attempts > 2 {
		t.Errorf("%+v", res)
	}
	r.log.want("kv cache not joined again at 256: ", 1)
	w.noMarkers()
}

// TestFailureAfterRejoin: the device fails on what was joined; the whole chain is
// withheld, the request runs cold, and the chain is found guilty.
func TestFailureAfterRejoin(t *testing.T) {
	w := newWorld(t)
	q := manySegments()
	w.fill(q)
	r := w.serve(rigOptions{})
	w.flip(w.chainOf(r)[2])
	r.down()
	// The first pass on restored state works, the second, which follows the join, fails.
	r = w.serve(rigOptions{faults: "at=wait,label=^graph embed tokens$,phase=prefill,source=disk,n=3"})
	a := r.good(q)
	equalAnswers(t, a, q)
	if st := r.Stats(); r.fired(0) != 1 || st.Convicted != 1 || a.result.Source != SourceCold {
		t.Errorf("fired %d, %+v, %+v", r.fired(0), st, a.result)
	}
}

// TestCancelledRejoin: a client that goes while a request joins again leaves no
// marker and no strike, and nothing half read.
func TestCancelledRejoin(t *testing.T) {
	w := newWorld(t)
	q := manySegments()
	w.fill(q)
	r := w.serve(rigOptions{config: func(c *Config) { c.RestoreMin = time.Minute }})
	w.flip(w.chainOf(r)[1])
	arm(t, r, "kv.text.read=delay(10s):nth=6:times=1")
	ctx, cancel := context.WithCancel(t.Context())
	ch := r.start(ctx, q)
	r.log.wait("fault fired", 1)
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
	equalAnswers(t, r.good(q), q)
}

// TestRejoinSampledTokens: an answer whose tokens are not those of its text ends
// the stored chain; what lies behind the damage is joined all the same.
func TestRejoinSampledTokens(t *testing.T) {
	for seed := range 20 {
		first := ask(chat.None, words(seed, 3*testSegment+50))
		live := newWorld(t).serve(rigOptions{})
		a := live.good(first)
		next := ask(chat.None, words(seed, 3*testSegment+50), a.text, "Go on.")
		want := live.good(next).result
		live.down()
		if want.Source != SourceMemoryText {
			continue // the model said what could not be repeated, or had no choice
		}
		w := newWorld(t)
		w.fill(first)
		r := w.serve(rigOptions{})
		for _, e := range r.store.List() {
			if e.From == testSegment && e.To == 2*testSegment {
				w.flip(e)
			}
		}
		got := r.good(next).result
		if r.log.want("joined what is stored from ", 1); got.CachedTokens != want.CachedTokens-testSegment {
			t.Errorf("seed %d: %d tokens come back, the live session had %d", seed, got.CachedTokens, want.CachedTokens)
		}
		return
	}
	t.Fatal("no answer has tokens of its own")
}
