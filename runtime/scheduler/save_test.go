package scheduler

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"ds4/runtime/chat"
	"ds4/runtime/kvstore"
)

// TestReasoningIsNotWritten: a segment that ends after hidden reasoning is not
// saved, one that ends in an answer is.
func TestReasoningIsNotWritten(t *testing.T) {
	for mode, want := range map[chat.Mode]int{chat.High: 0, chat.None: 1} {
		w := newWorld(t)
		r := w.serve(rigOptions{})
		text := ""
		for tokens := 0; tokens < testSegment-6; text += "of " {
			tokens = len(chat.Tokens(r.tok, ask(mode, text+"of ").Prompt))
		}
		q := ask(mode, text)
		q.IgnoreEOS = true
		if a := r.good(q); a.result.PromptTokens >= testSegment || a.result.PromptTokens+a.result.CompletionTokens <= testSegment+1 {
			t.Fatalf("the answer does not pass %d: %+v", testSegment, a.result)
		}
		r.flush()
		r.log.want("kv cache stored .*reason=continued", want)
		r.down()
	}
}

// TestEnds: new segments follow the full ones of a restored chain.
func TestEnds(t *testing.T) {
	chain := func(ends ...int) kvstore.Chain {
		return kvstore.Chain{IDs: []string{"a", "b", "c"}[:len(ends)], Ends: ends, Tokens: ends[len(ends)-1]}
	}
	for _, x := range []struct {
		chain kvstore.Chain
		full  string // ids that others may follow
	}{
		{chain(128), "a"},
		{chain(128, 256, 300), "ab"},
		{chain(100), ""},      // a tail
		{chain(96, 192), "b"}, // of another segment size: better than nothing
		{chain(96, 128, 192), "b"},
	} {
		got := ""
		list := ends(x.chain, testSegment)
		for _, e := range list {
			if i := slices.Index(x.chain.IDs, e.id); e.at != x.chain.Ends[i] {
				t.Errorf("%v: %+v", x.chain.Ends, list)
			}
			if e.parent {
				got += e.id
			}
		}
		if last := list[len(list)-1]; last.at != x.chain.Tokens {
			t.Errorf("%v: %+v", x.chain.Ends, list)
		}
		if got != x.full {
			t.Errorf("%v: new segments may follow %q, want %q", x.chain.Ends, got, x.full)
		}
	}
}

// TestColdRetrySurvivesTheVerdict: the whole chain is found guilty; what the cold
// retry saved meanwhile, after it, is there after kill -9 all the same.
func TestColdRetrySurvivesTheVerdict(t *testing.T) {
	w := newWorld(t)
	q := longChat()
	r := w.serve(rigOptions{})
	r.good(q)
	r.flush()
	for _, e := range r.store.List() {
		if e.To%testSegment != 0 { // leaves one full segment
			if err := os.Remove(filepath.Join(w.dir, "segments", e.ID[:2], e.ID+".kv")); err != nil {
				t.Fatal(err)
			}
		}
	}
	dead := w.killed()
	r.down()
	r = dead.serve(rigOptions{faults: "at=wait,label=^graph embed tokens$,source=disk"})
	a := r.good(q)
	equalAnswers(t, a, q)
	r.log.want("kv cache convicted", 1)
	r.flush()
	heir := dead.killed()
	r.down()
	r = heir.serve(rigOptions{})
	b := r.good(q)
	equalAnswers(t, b, q)
	if res := b.result; res.EvaluatedTokens != 1 || res.Source != SourceDisk {
		t.Errorf("got %+v", res)
	}
}

// TestLongSessionIsSavedLate: the store has lost more of a conversation than a segment
// usually holds. The conversation is saved again as a whole at the next end of a
// segment, and what follows is saved after it.
func TestLongSessionIsSavedLate(t *testing.T) {
	w := newWorld(t)
	r := w.serve(rigOptions{context: 4 * testContext})
	text := words(1, (maxSegments+3)*testSegment)
	first := r.good(ask(chat.None, text))
	if first.result.PromptTokens <= maxSegments*testSegment {
		t.Fatalf("a prompt of %d tokens is not long", first.result.PromptTokens)
	}
	r.flush()
	if _, err := r.store.Clear(); err != nil {
		t.Fatal(err)
	}
	stored := len(r.log.find("kv cache stored "))
	talk := []string{text, first.text, words(2, testSegment), "", words(3, 2*testSegment)}
	second := r.good(ask(chat.None, talk[:3]...))
	if second.result.CachedTokens <= maxSegments*testSegment {
		t.Fatalf("%d tokens were still in memory", second.result.CachedTokens)
	}
	r.flush()
	r.log.want("kv cache stored ", stored+1)
	talk[3] = second.text
	third := r.good(ask(chat.None, talk...))
	heir := w.killed()
	r.flush()
	r.down()
	for _, e := range r.store.List() {
		if e.From > 0 && e.To-e.From > testSegment+maxSegments {
			t.Errorf("[%d, %d) was written again", e.From, e.To)
		}
	}
	r = heir.serve(rigOptions{context: 4 * testContext})
	again := r.good(ask(chat.None, talk...))
	if again.text != third.text || again.result.CachedTokens <= maxSegments*testSegment {
		t.Errorf("after kill -9 %d tokens were restored, answer %q, want %q", again.result.CachedTokens, again.text, third.text)
	}
}

// killed is the folder that a server finds after the present one was killed.
func (w *world) killed() *world {
	w.t.Helper()
	heir := &world{t: w.t, dir: w.t.TempDir(), lay: w.lay}
	if err := os.CopyFS(heir.dir, os.DirFS(w.dir)); err != nil {
		w.t.Fatal(err)
	}
	return heir
}
