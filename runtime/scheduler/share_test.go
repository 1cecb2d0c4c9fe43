package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"ds4/metal"
	"ds4/runtime/chat"
)

// jobs are the requests that run, in the order of their admission.
func (r *rig) jobs(n int) []*job {
	r.t.Helper()
	if len(r.active) != n {
		r.t.Fatalf("%d requests run, want %d; log:\n%s", len(r.active), n, strings.Join(r.log.find(""), "\n"))
	}
	return append([]*job(nil), r.active...)
}

// turnUntil lets the worker go on until done.
func (r *rig) turnUntil(done func() bool) {
	r.t.Helper()
	for range 100_000 {
		if done() {
			return
		}
		r.turn()
	}
	r.t.Fatalf("not done; log:\n%s", strings.Join(r.log.find(""), "\n"))
}

// decoding reports whether all requests that run are sampling.
func (r *rig) decoding(n int) bool {
	for _, j := range r.active {
		if j.phase != phaseDecode {
			return false
		}
	}
	return len(r.active) == n
}

func endless(seed, tokens int) *Request {
	q := ask(chat.None, words(seed, 20))
	q.MaxTokens, q.IgnoreEOS = tokens, true
	return q
}

// progress counts, for each request, the passes since it got further.
type progress struct {
	last    map[*job]int
	waited  map[*job]int
	longest map[*job]int
}

func newProgress() *progress {
	return &progress{map[*job]int{}, map[*job]int{}, map[*job]int{}}
}

func (p *progress) pass(list []*job) {
	for _, j := range list {
		if j.phase == phaseDone {
			continue
		}
		if at := j.slot.sess.Len() + j.sampled; at != p.last[j] {
			p.last[j], p.waited[j] = at, 0
			continue
		}
		p.waited[j]++
		p.longest[j] = max(p.longest[j], p.waited[j])
	}
}

// TestNobodyStarves: while one client prefills 8,000 tokens, another one gets a
// token in every pass, and the prompt most of each.
func TestNobodyStarves(t *testing.T) {
	const prompt = 8000
	r := newRig(t, rigOptions{byHand: true, context: prompt + 1000})
	talker := r.start(t.Context(), endless(1, 5000))
	r.turnUntil(func() bool { return r.decoding(1) })
	long := ask(chat.None, strings.Repeat(words(2, 500), prompt/500))
	r.start(t.Context(), long)
	r.turn()
	list := r.jobs(2)
	p, passes, before := newProgress(), 0, list[0].sampled
	for list[1].phase != phaseDecode {
		p.pass(list)
		r.turn()
		passes++
	}
	if n := list[1].slot.sess.Len(); n < prompt {
		t.Fatalf("the prompt has %d tokens", n)
	}
	if p.longest[list[0]] > 0 || list[0].sampled-before < passes {
		t.Errorf("%d tokens in %d passes, one waited for %d passes", list[0].sampled-before, passes, p.longest[list[0]])
	}
	if most := prompt/(testChunk*3/4) + 3; passes > most {
		t.Errorf("the prompt took %d passes, want at most %d", passes, most)
	}
	_ = talker
}

// TestFourStreamsAtOnce: four greedy answers that share every pass have the tokens,
// and their last position the logits, that each has alone.
func TestFourStreamsAtOnce(t *testing.T) {
	const n, tokens = 4, 40
	var requests []*Request
	for i := range n {
		q := ask(chat.None, words(i, 15+30*i))
		q.MaxTokens, q.IgnoreEOS = tokens, true
		requests = append(requests, q)
	}
	type end struct {
		tokens []int32
		logits []float32
	}
	endOf := func(j *job) end {
		return end{slices.Clone(j.slot.past.tokens), slices.Clone(j.slot.sess.Logits())}
	}
	r := newRig(t, rigOptions{byHand: true, config: func(c *Config) { c.Sessions = n }})
	for _, q := range requests {
		r.start(t.Context(), q)
	}
	r.turn()
	list := r.jobs(n)
	r.turnUntil(func() bool { return len(r.active) < n || r.decoding(n) })
	for len(r.active) == n { // one pass, four tokens
		before := r.Stats().DecodeTokens
		r.turn()
		if got := r.Stats().DecodeTokens - before; got != n {
			t.Fatalf("%d tokens in a pass", got)
		}
	}
	r.turnUntil(func() bool { return len(r.active) == 0 })
	for i, j := range list {
		alone := newRig(t, rigOptions{byHand: true})
		alone.start(t.Context(), requests[i])
		alone.turn()
		k := alone.jobs(1)[0]
		alone.turnUntil(func() bool { return len(alone.active) == 0 })
		got, want := endOf(j), endOf(k)
		if !slices.Equal(got.tokens, want.tokens) || !slices.Equal(got.logits, want.logits) {
			t.Errorf("stream %d: %v, alone %v; logits equal: %t", i, got.tokens, want.tokens, slices.Equal(got.logits, want.logits))
		}
		if j.sampled != tokens {
			t.Errorf("stream %d: %d tokens", i, j.sampled)
		}
		alone.down()
	}
}

// TestCrowdedPasses: with more answers than a pass holds, and prompts beside
// them, everybody gets further all the time.
func TestCrowdedPasses(t *testing.T) {
	for _, c := range []struct{ chunk, answers, prompts, most int }{
		{4, 7, 1, 2}, {4, 7, 3, 5}, {1, 1, 1, 1}, {1, 3, 2, 5}, {8, 3, 1, 0},
	} {
		t.Run(fmt.Sprintf("chunk %d, %d answers, %d prompts", c.chunk, c.answers, c.prompts), func(t *testing.T) {
			r := newRig(t, rigOptions{byHand: true, chunk: c.chunk, config: func(cfg *Config) { cfg.Sessions = c.answers + c.prompts }})
			for i := range c.answers {
				r.start(t.Context(), endless(i, 900))
			}
			r.turnUntil(func() bool { return r.decoding(c.answers) })
			for i := range c.prompts {
				r.start(t.Context(), ask(chat.None, words(10+i, 200)))
			}
			r.turn()
			list, p := r.jobs(c.answers+c.prompts), newProgress()
			for range 60 {
				p.pass(list)
				r.turn()
			}
			for i, j := range list {
				if p.longest[j] > c.most {
					t.Errorf("request %d waited for %d passes, want at most %d", i, p.longest[j], c.most)
				}
			}
		})
	}
}

// shared is a world in which two answers and a prompt share passes: its chunks,
// from the second on.
func shared(t *testing.T, faults string) (r *rig, requests []*Request, replies func() []reply) {
	t.Helper()
	a, b := endless(1, 30), endless(2, 30)
	c := ask(chat.None, words(3, 200))
	r = newRig(t, rigOptions{byHand: true, faults: faults, config: func(c *Config) { c.Sessions = 3 }})
	requests = []*Request{a, b, c}
	var streams []<-chan Event
	for _, q := range requests {
		if len(streams) == 2 {
			r.turnUntil(func() bool { return r.decoding(2) })
		}
		streams = append(streams, r.start(t.Context(), q))
	}
	return r, requests, func() (list []reply) {
		t.Helper()
		r.turn()
		r.turnUntil(func() bool { return len(r.active) == 0 && r.queue.len() == 0 })
		for _, ch := range streams {
			list = append(list, collect(ch))
		}
		return list
	}
}

func keyOf(q *Request) string {
	l, err := random()
	if err != nil {
		panic(err)
	}
	return rangeKeyOf(l.tok.Fingerprint(), q.Prompt.CacheText(), q.Prompt.RangeEnd)
}

func wantCold(t *testing.T, name string, got reply, q *Request) {
	t.Helper()
	if want := cold(t, q); got.err != nil || got.text != want.text {
		t.Errorf("%s: got %q %v, cold %q", name, got.text, got.err, want.text)
	}
}

// TestSharedPassBlamesTheAnswer: an answer that makes the pass of a prompt fail is
// found by itself. The prompt is not blamed for it, nor is the other answer.
func TestSharedPassBlamesTheAnswer(t *testing.T) {
	culprit := keyOf(endless(2, 30))
	r, requests, replies := shared(t, "at=wait,label=layer 2,phase=prefill,chunk=3,effect=scramble,times=1; "+
		"at=wait,label=layer 2,phase=decode,range="+culprit+",times=1")
	list := replies()
	if r.fired(0) != 1 || r.fired(1) != 1 {
		t.Fatalf("fired %d and %d", r.fired(0), r.fired(1))
	}
	var f *FailureError
	if !errors.As(list[1].err, &f) || f.Attempt != 1 {
		t.Errorf("the culprit: %+v", list[1])
	}
	wantCold(t, "the other answer", list[0], requests[0])
	wantCold(t, "the prompt", list[2], requests[2])
	if res := list[2].result; res == nil || res.Attempts != 1 {
		t.Errorf("the prompt was begun again: %+v", res)
	}
	if st := r.Stats(); st.Failures[classDevice] != 1 || st.PrefillAttempts != 3 || st.RangesFailing != 1 || r.ladder.get(culprit) == nil {
		t.Errorf("stats %+v", st)
	}
}

// TestSharedPassBlamesThePrompt: if every answer of the failed pass works alone it
// was the chunk, which the device need not see again to know.
func TestSharedPassBlamesThePrompt(t *testing.T) {
	r, requests, replies := shared(t, "at=wait,label=layer 2,phase=prefill,chunk=3,effect=scramble,times=1")
	list := replies()
	var f *FailureError
	if !errors.As(list[2].err, &f) || f.Attempt != 1 || !strings.HasPrefix(f.Message, "cpu prefill failed: ") {
		t.Fatalf("the prompt: %+v", list[2])
	}
	wantCold(t, "an answer", list[0], requests[0])
	wantCold(t, "an answer", list[1], requests[1])
	if st := r.Stats(); r.fired(0) != 1 || st.Failures[classDevice] != 1 || st.MaxStreak != 1 {
		t.Errorf("fired %d, stats %+v", r.fired(0), st)
	}
	// The next attempt shares no pass, so that nobody else can be its downfall.
	again := r.start(t.Context(), requests[2])
	r.start(t.Context(), endless(1, 200))
	r.turnUntil(func() bool { return len(r.active) == 2 })
	for _, j := range r.jobs(2) {
		if want := j.rangeKey == keyOf(requests[2]); j.alone != want {
			t.Errorf("range %s alone: %t", j.shortRange(), j.alone)
		}
	}
	r.turnUntil(func() bool { return len(r.active) == 0 })
	wantCold(t, "the second attempt", collect(again), requests[2])
}

// TestCancelInATrial: a client that leaves while the culprit is looked for takes
// no blame and spares nobody else the search.
func TestCancelInATrial(t *testing.T) {
	for _, leaves := range []int{0, 2} { // an answer, the prompt
		t.Run(fmt.Sprint(leaves), func(t *testing.T) {
			r := newRig(t, rigOptions{
				byHand: true, faults: "at=wait,label=layer 2,phase=prefill,chunk=2,n=3",
				config: func(c *Config) { c.Sessions = 3 },
			})
			requests := []*Request{endless(1, 30), endless(2, 30), ask(chat.None, words(3, 200))}
			var streams []<-chan Event
			var cancels []context.CancelFunc
			for i, q := range requests {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i == 2 {
					r.turnUntil(func() bool { return r.decoding(2) })
				}
				streams, cancels = append(streams, r.start(ctx, q)), append(cancels, cancel)
			}
			r.turnUntil(func() bool { return r.trial != nil })
			cancels[leaves]()
			r.turnUntil(func() bool { return len(r.active) == 0 })
			for i, ch := range streams {
				got := collect(ch)
				switch {
				case i == leaves:
					if !errors.Is(got.err, context.Canceled) {
						t.Errorf("request %d: %+v", i, got)
					}
				case i == 2:
					var f *FailureError
					if !errors.As(got.err, &f) {
						t.Errorf("the prompt: %+v", got)
					}
				default:
					wantCold(t, "an answer", got, requests[i])
				}
			}
		})
	}
}

// crowdShy is a device that fails whatever two sequences share.
type crowdShy struct{ metal.Device }

func (d crowdShy) SetScope(s metal.Scope) { metal.SetScope(d.Device, s) }

func (d crowdShy) NewCommandBuffer(label string) (metal.CommandBuffer, error) {
	cb, err := d.Device.NewCommandBuffer(label)
	return &crowdShyBuffer{CommandBuffer: cb, label: label}, err
}

type crowdShyBuffer struct {
	metal.CommandBuffer
	label     string
	sequences int
}

func (c *crowdShyBuffer) Dispatch(p metal.Pipeline, groups metal.Size, args []byte, bufs ...metal.Binding) {
	if p.Kernel() == metal.KernelKVStore {
		c.sequences++ // one for each, in every layer
	}
	c.CommandBuffer.Dispatch(p, groups, args, bufs...)
}

func (c *crowdShyBuffer) Wait(ctx context.Context) error {
	err := c.CommandBuffer.Wait(ctx)
	if err == nil && c.sequences > 1 {
		return metal.NewCommandError(c.label, metal.CodeInternal, metal.CodeInternal.Message())
	}
	return err
}

// TestSharingFails: on a device that cannot do several sequences in one pass, the
// first prompt that meets an answer pays for the discovery with a retry, and that
// is all.
func TestSharingFails(t *testing.T) {
	r := newRig(t, rigOptions{
		byHand: true, device: func(d metal.Device) metal.Device { return crowdShy{d} },
		config: func(c *Config) { c.Sessions = 3 },
	})
	requests := []*Request{endless(1, 60), endless(2, 60), ask(chat.None, words(3, 200))}
	var streams []<-chan Event
	begin := func(q *Request) { streams = append(streams, r.start(t.Context(), q)) }
	begin(requests[0])
	r.turnUntil(func() bool { return r.decoding(1) })
	begin(requests[1])
	r.turn()
	r.turnUntil(func() bool { return len(r.active) == 1 })
	begin(requests[1])
	r.turn()
	r.turnUntil(func() bool { return r.decoding(2) && r.active[1].sampled > 2 })
	begin(requests[2])
	r.turn()
	r.turnUntil(func() bool { return len(r.active) == 0 })
	var f *FailureError
	if got := collect(streams[1]); !errors.As(got.err, &f) || !f.Retryable || f.Attempt != 1 {
		t.Errorf("the first to meet an answer: %+v", got)
	}
	wantCold(t, "the answer", collect(streams[0]), requests[0])
	wantCold(t, "the retry", collect(streams[2]), requests[1])
	wantCold(t, "the prompt", collect(streams[3]), requests[2])
	r.log.want("none are shared for", 1)
	if st := r.Stats(); st.Failures[classDevice] != 1 || st.DeviceRebuilds != apartAfter || st.MaxStreak != 0 {
		t.Errorf("stats %+v", st)
	}
	// It is tried again, but not soon.
	r.clock.advance(apartFor)
	for _, q := range requests[:2] {
		r.start(t.Context(), q)
	}
	r.turn()
	r.turnUntil(func() bool { return len(r.active) == 0 })
	r.log.want("none are shared for", 2)
}
