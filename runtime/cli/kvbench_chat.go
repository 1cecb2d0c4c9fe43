package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"time"

	"ds4/runtime/chat"
	"ds4/runtime/config"
	"ds4/runtime/kvstore"
	"ds4/runtime/kvstore/blank"
	"ds4/runtime/sample"
	"ds4/runtime/scheduler"
)

const (
	benchSpareTokens = 256 // of the context, for answers and the frame of the prompt
	answerTokens     = 8   // of a turn
	restartRounds    = 3
	restoreRounds    = 9
	fitRounds        = 4 // of making a text of a length in tokens
	subjectSeed      = 2
	bytesPerToken    = 4 // a first guess
	frameTokens      = 8 // of a turn, about: control tokens around a text

	stallBoundRatio   = 0.02
	restartBoundRatio = 0.05
	restoreBoundGBs   = 1
	growthBoundRatio  = 1.3
	megabyte          = 1e6
	gigabyte          = 1e9

	// Folders below the bench's own.
	subjectFolder = "subject"
	growthFolder  = "growth"
)

// subject is one conversation of full length: a prompt that was evaluated cold.
type subject struct {
	messages []chat.Message
	cold     *reply
	sched    scheduler.Stats
	store    kvstore.Stats
}

// reply is an answered request.
type reply struct {
	text   string
	first  time.Duration // from before rendering to the first token
	result *scheduler.Result
}

// open starts the program up to the scheduler, for one session. An empty name is
// no cache folder.
func (b *bench) open(ctx context.Context, name string) (*stack, error) {
	var defaults config.Set
	var recovery config.Recovery
	defaults.AddRecovery(&recovery)
	kv := b.s.kv
	if kv.Dir = ""; name != "" {
		kv.Dir = filepath.Join(b.dir, name)
	}
	errLine := func(line string) { fmt.Fprintln(b.Err, line) }
	quiet := func(string, ...any) {}
	st, err := b.newStack(ctx, stackOptions{model: &b.s.model, kv: &kv, recovery: &recovery, faults: &config.Faults{},
		sessions: 1, queue: 1, tokens: answerTokens}, quiet, errLine, nil)
	if err == nil && st.cacheProblem != "" {
		err = errors.Join(errors.New(st.cacheProblem), st.close(ctx))
	}
	return st, err
}

// with runs f with a started program and ends it, which saves its session.
func (b *bench) with(ctx context.Context, name string, f func(*stack) error) error {
	st, err := b.open(ctx, name)
	if err != nil {
		return err
	}
	err = f(st)
	if ctx.Err() != nil {
		err = errors.Join(err, ctx.Err())
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), localShutdown)
	defer cancel()
	return errors.Join(err, st.close(end))
}

// ask sends a conversation through the scheduler, as run and serve do.
func (b *bench) ask(ctx context.Context, st *stack, what string, messages []chat.Message, tokens int) (*reply, error) {
	begin := time.Now()
	prompt, err := b.render(messages)
	if err != nil {
		return nil, err
	}
	events, err := st.sched.Submit(ctx, &scheduler.Request{Prompt: prompt, MaxTokens: tokens, Sampling: sample.Params{}, IgnoreEOS: true})
	if err != nil {
		return nil, err
	}
	r := &reply{}
	for e := range events {
		switch e.Kind {
		case scheduler.EventPrefill:
			b.progress(what, e.Done, e.Total)
			continue
		case scheduler.EventText:
			r.text += e.Text
		case scheduler.EventDone:
			r.result = e.Result
		case scheduler.EventError:
			err = e.Err
		}
		if r.first == 0 {
			r.first = time.Since(begin)
		}
	}
	return r, err
}

func (b *bench) render(messages []chat.Message) (chat.Prompt, error) {
	return chat.Render(messages, chat.Options{ContextTokens: b.s.model.Context})
}

// textOf returns a text of so many tokens, or a few more or less.
func textOf(st *stack, rng *rand.Rand, tokens int) string {
	source := string(blank.Text(rng, 2*bytesPerToken*tokens))
	n := bytesPerToken * tokens
	for range fitRounds {
		n = min(n, len(source))
		n = n * tokens / max(len(st.tok.Encode(source[:n])), 1)
	}
	return source[:min(n, len(source))]
}

// theSubject evaluates the prompt cold, once, with the disk cache on.
func (b *bench) theSubject(ctx context.Context) (*subject, error) {
	if b.subject != nil {
		return b.subject, nil
	}
	s := &subject{}
	err := b.with(ctx, subjectFolder, func(st *stack) (err error) {
		text := textOf(st, rand.New(rand.NewPCG(subjectSeed, 0)), b.s.tokens-frameTokens)
		s.messages = []chat.Message{{Role: chat.RoleUser, Content: text}}
		if s.cold, err = b.ask(ctx, st, "cold prefill", s.messages, 1); err != nil {
			return err
		}
		s.sched = st.sched.Stats()
		if err = st.store.Flush(ctx); err == nil {
			s.store = st.store.Stats()
		}
		return err
	})
	if err == nil {
		b.subject = s
	}
	return b.subject, err
}

// prefill reports what the cold prompt cost besides the evaluation.
func (b *bench) prefill(ctx context.Context) error {
	s, err := b.theSubject(ctx)
	if err != nil {
		return err
	}
	tokens, took := float64(s.sched.PrefillTokens), s.sched.PrefillTime
	b.add("prefill_tps", fmt.Sprintf("cold prefill of %.0f tokens", tokens), "%.0f t/s", tokens/took.Seconds()).
		note("%.1f s; first token after %.1f s", took.Seconds(), s.cold.first.Seconds())
	b.add("prefill_stall_ratio", "prefill stalled by saving", "%.4f", s.sched.SaveStall.Seconds()/took.Seconds()).
		note("%.0f ms, of which %.0f ms for a place in the queue; --kv-sync %s",
			millis(s.sched.SaveStall), millis(s.store.SaveStall), b.s.kv.Sync).atMost(stallBoundRatio)
	b.add("prefill_written_per_token_bytes", "written per prefilled token", "%.0f B", float64(s.store.BytesWritten)/tokens).
		note("%d segments, %s, writer busy for %.1f s", s.store.Stored, formatBytes(uint64(s.store.BytesWritten)), s.store.WriteTime.Seconds())
	return nil
}

// restart sends the prompt again to new instances of the program.
func (b *bench) restart(ctx context.Context) error {
	s, err := b.theSubject(ctx)
	if err != nil {
		return err
	}
	var first, started []float64
	var last *scheduler.Result
	for range restartRounds {
		begin := time.Now()
		if err := b.with(ctx, subjectFolder, func(st *stack) error {
			started = append(started, millis(time.Since(begin)))
			r, err := b.ask(ctx, st, "prefill after restart", s.messages, 1)
			if err != nil {
				return err
			}
			first, last = append(first, r.first.Seconds()), r.result
			if r.text != s.cold.text {
				return fmt.Errorf("the answer is %q, a cold prompt gave %q", r.text, s.cold.text)
			}
			return nil
		}); err != nil {
			return err
		}
	}
	if last.Source != scheduler.SourceDisk {
		return fmt.Errorf("the prompt was not restored: source %s, %d of %d tokens evaluated", last.Source, last.EvaluatedTokens, last.PromptTokens)
	}
	cold := s.sched.PrefillTime.Seconds()
	b.add("restart_first_token_ratio", "first token after restart, to cold prefill", "%.4f", median(first)/cold).
		note("%.0f ms to %.1f s; %d of %d tokens restored, in %.0f ms", 1000*median(first), cold, last.RestoredTokens,
			last.PromptTokens, millis(last.RestoreTime)).atMost(restartBoundRatio)
	b.add("restart_ready_ms", "start of the program until it takes requests", "%.0f ms", median(started))
	return nil
}

// restore reads the conversation into a session of the engine, from files that
// are in memory.
func (b *bench) restore(ctx context.Context) error {
	s, err := b.theSubject(ctx)
	if err != nil {
		return err
	}
	prompt, err := b.render(s.messages)
	if err != nil {
		return err
	}
	return b.with(ctx, subjectFolder, func(st *stack) error {
		chain := st.store.Lookup(prompt.CacheText())
		sess, err := st.eng.NewSession()
		if err != nil {
			return err
		}
		defer sess.Release()
		var rates []float64
		var got kvstore.Restored
		for range restoreRounds {
			got, err = st.store.Restore(ctx, chain, func(to int) (kvstore.Target, error) { return sess.BeginRestore(0, to) })
			if err != nil {
				return err
			}
			if sess.Len() != chain.Tokens {
				return fmt.Errorf("%d of %d tokens were restored", sess.Len(), chain.Tokens)
			}
			rates = append(rates, float64(got.Bytes)/gigabyte/got.Time.Seconds())
		}
		b.add("restore_gbps", fmt.Sprintf("restore of %d tokens, files in memory", chain.Tokens), "%.2f GB/s", median(rates)).
			note("%.1f MB of %.1f MB of %d segments, in %.1f ms; slowest of %d: %.2f GB/s", float64(got.Bytes)/megabyte,
				float64(chain.Bytes)/megabyte, len(chain.IDs), millis(got.Time), restoreRounds, slices.Min(rates)).atLeast(restoreBoundGBs)
		return nil
	})
}

// growth lets a conversation grow turn by turn and compares what was written with
// what remains of it.
func (b *bench) growth(ctx context.Context) error {
	var messages []chat.Message
	var sched scheduler.Stats
	var store *kvstore.Store
	prompt := 0
	rng := rand.New(rand.NewPCG(subjectSeed, 1))
	if err := b.with(ctx, growthFolder, func(st *stack) error {
		store = st.store
		for turn := range b.s.turns {
			want := b.s.tokens*(turn+1)/b.s.turns - prompt - frameTokens - answerTokens
			messages = append(messages, chat.Message{Role: chat.RoleUser, Content: textOf(st, rng, max(want, 1))})
			r, err := b.ask(ctx, st, fmt.Sprintf("turn %d, prefill", turn+1), messages, answerTokens)
			if err != nil {
				return err
			}
			messages = append(messages, chat.Message{Role: chat.RoleAssistant, Content: r.text})
			prompt = r.result.PromptTokens
		}
		sched = st.sched.Stats()
		return nil
	}); err != nil {
		return err
	}
	written := store.Stats() // with what the end saved
	return b.with(ctx, growthFolder, func(st *stack) error {
		prompt, err := b.render(messages)
		if err != nil {
			return err
		}
		chain := st.store.Lookup(prompt.CacheText())
		if chain.Empty() {
			return errors.New("nothing of the conversation is stored")
		}
		b.add("growth_written_ratio", fmt.Sprintf("written in %d turns, to the final chain", b.s.turns), "%.2f",
			float64(written.BytesWritten)/float64(chain.Bytes)).
			note("%.1f MB in %d segments; the chain of %d tokens has %.1f MB", float64(written.BytesWritten)/megabyte, written.Stored,
				chain.Tokens, float64(chain.Bytes)/megabyte).atMost(growthBoundRatio)
		b.add("growth_written_per_token_bytes", "written per prefilled token", "%.0f B", float64(written.BytesWritten)/float64(sched.PrefillTokens)).
			note("%d tokens prefilled", sched.PrefillTokens)
		return nil
	})
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
