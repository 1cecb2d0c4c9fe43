package scheduler

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ds4/metal"
	"ds4/runtime/chat"
	"ds4/runtime/engine"
	"ds4/runtime/failpoint"
	"ds4/runtime/kvstore"
	"ds4/runtime/sample"
	"ds4/runtime/tokenizer"
)

var (
	pointBegin        = failpoint.New("prefill.begin")
	pointReset        = failpoint.New("session.reset")
	pointShutdownSave = failpoint.New("shutdown.save")
)

// Scheduler serves requests on one engine. Its methods may be called from any
// goroutine.
type Scheduler struct {
	eng      *engine.Engine
	tok      *tokenizer.Tokenizer
	disk     disk
	cfg      Config
	identity [32]byte

	queue    queue
	long     longPrompts
	count    *counters
	gate     atomic.Pointer[gate]
	wake     chan struct{} // of size 1: the worker has something to do
	commands chan func()

	ctx      context.Context // of all device work; ends when a shutdown may wait no longer
	abandon  context.CancelFunc
	stop     chan struct{} // closed: the worker must end
	stopOnce sync.Once
	stopCtx  context.Context // set before stop is closed
	done     chan struct{}   // closed: the worker has ended

	worker
}

// worker is what the worker goroutine alone touches.
type worker struct {
	slots    []*slot
	active   []*job // requests that hold a slot
	turns    int    // of prefilling requests
	uses     uint64
	chunk    int // tokens of one step; halved when the recovery policy asks for it
	ladder   *ladder
	breaker  breaker
	policy   metal.History
	down     bool // the device takes no work before a canary rebuilt it
	uncured  int  // device failures in a row that a cold attempt did not cure
	fatal    bool // OnFatal was called
	restores chan restored
	pace     pace
	sharing
	leaked []*engine.Point // for Unsafe.LeakMemory
}

// sharing is what the choice of passes remembers.
type sharing struct {
	served        int    // of more answers than fit: whose turn it is
	decodedLast   bool   // the last pass evaluated answers
	shareFailures int    // shared passes that failed since one worked
	trial         *trial // of a failed pass, nil if nothing is left to find out
	apartUntil    time.Time
}

// New starts a scheduler. The store may be nil: then nothing is saved or
// restored. Engine, tokenizer and store stay the caller's to close, after
// Shutdown.
func New(eng *engine.Engine, tok *tokenizer.Tokenizer, store *kvstore.Store, cfg Config) (*Scheduler, error) {
	s, err := prepare(eng, tok, store, cfg)
	if err == nil {
		go s.run()
	}
	return s, err
}

// prepare makes a scheduler whose worker does not run yet.
func prepare(eng *engine.Engine, tok *tokenizer.Tokenizer, store *kvstore.Store, cfg Config) (*Scheduler, error) {
	if err := chat.CheckVocabulary(tok); err != nil {
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	if tok.Vocab() > eng.Model().Vocab {
		return nil, fmt.Errorf("scheduler: the tokenizer has %d tokens, the model %d", tok.Vocab(), eng.Model().Vocab)
	}
	cfg = cfg.withDefaults()
	s := &Scheduler{
		eng: eng, tok: tok, cfg: cfg, identity: tok.Fingerprint(),
		disk:     disk{store: store, off: cfg.Unsafe.RecoveryOff},
		queue:    queue{limit: cfg.QueueLimit},
		long:     newLongPrompts(tok),
		count:    newCounters(),
		wake:     make(chan struct{}, 1),
		commands: make(chan func()),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	s.ctx, s.abandon = context.WithCancel(context.Background())
	s.worker = worker{
		chunk:    eng.ChunkTokens(),
		ladder:   newLadder(cfg.PrefillFailureLimit, cfg.FailureWindow),
		restores: make(chan restored, cfg.Sessions),
		pace:     pace{min: cfg.WatchdogMin},
	}
	for range cfg.Sessions {
		s.slots = append(s.slots, &slot{})
	}
	// The first session exists before the first request, so that a context that
	// does not fit in memory shows at start.
	var err error
	if s.slots[0].sess, err = eng.NewSession(); err != nil {
		s.abandon()
		return nil, fmt.Errorf("scheduler: %w", err)
	}
	return s, nil
}

// endThink is the token that ends reasoning.
func (s *Scheduler) endThink() int32 {
	if id, ok := s.tok.ID(tokenizer.EndThinkToken); ok {
		return id
	}
	return sample.NoToken
}

// backend is the word for the device in error messages.
func (s *Scheduler) backend() string { return s.eng.Device().Name() }

// signal wakes the worker.
func (s *Scheduler) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// do runs f on the worker goroutine and waits for it.
func (s *Scheduler) do(ctx context.Context, f func()) error {
	ran := make(chan struct{})
	select {
	case s.commands <- func() { defer close(ran); f() }:
		<-ran
		return nil
	case <-s.stop:
		return ErrShuttingDown
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ClearKV empties the disk store, the idle live sessions and the failure ladder.
// Requests that run are not disturbed.
func (s *Scheduler) ClearKV(ctx context.Context) error {
	var err error
	if doErr := s.do(ctx, func() {
		for _, sl := range s.slots {
			if sl.idle() {
				s.resetSlot(sl)
			} else {
				sl.saved = nil // what it would continue is gone
			}
		}
		s.ladder.forget()
		err = s.disk.clear()
	}); doErr != nil {
		return doErr
	}
	return err
}

// Stats returns counters and gauges, for metrics.
func (s *Scheduler) Stats() Stats {
	st := s.count.snapshot()
	st.QueueDepth = s.queue.len()
	st.BreakerOpen = s.gate.Load() != nil
	return st
}

// Health tells how the scheduler is.
func (s *Scheduler) Health() Health {
	select {
	case <-s.stop:
		return Health{State: HealthStopping, Reasons: []string{ErrShuttingDown.Error()}}
	default:
	}
	h := Health{State: HealthOK}
	if why := s.disk.trouble(); why != "" && !s.cfg.Unsafe.HideTrouble {
		h.State, h.Reasons = HealthDegradedCache, []string{why}
	}
	if g := s.gate.Load(); g != nil {
		h.State = HealthDegradedDevice
		h.Reasons = append([]string{"device: " + g.reason}, h.Reasons...)
		h.RetryAfter = max(g.next.Sub(s.cfg.Now()), time.Second)
	}
	return h
}

// run is the worker.
func (s *Scheduler) run() {
	defer close(s.done)
	defer s.abandon()
	for !s.stopping() {
		if !s.turn() {
			s.rest()
		}
	}
	s.finish()
}

func (s *Scheduler) stopping() bool {
	select {
	case <-s.stop:
		return true
	default:
		return false
	}
}

// turn does what there is to do, one device step at most, and reports whether
// there was anything. A panic in it fails the requests that run, not the process.
func (s *Scheduler) turn() (busy bool) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(v)
			busy = true
		}
	}()
	s.runCommand()
	begun := s.endRestores()
	s.dropCancelled()
	if s.admit() || begun {
		s.gauges() // the pass that follows may take long
	}
	if s.breaker.due(s.cfg.Now()) {
		s.canary()
		return true
	}
	busy = s.step()
	s.gauges()
	return busy
}

func (s *Scheduler) runCommand() {
	select {
	case f := <-s.commands:
		f()
	default:
	}
}

// rest waits until something may be there to do.
func (s *Scheduler) rest() {
	var timer <-chan time.Time
	if s.breaker.open {
		t := time.NewTimer(max(s.breaker.next.Sub(s.cfg.Now()), 0))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-s.wake:
	case <-timer:
	case <-s.stop:
	case r := <-s.restores:
		s.restores <- r // endRestores takes it: the channel has room for all
	case f := <-s.commands:
		f()
	}
}

func (s *Scheduler) gauges() {
	failing, longest := s.ladder.failing()
	live := 0
	for _, sl := range s.slots {
		if !sl.empty() {
			live++
		}
	}
	s.count.add(func(st *Stats) {
		st.ActiveRequests, st.LiveSessions = len(s.active), live
		st.Sessions = s.sessions(st.Sessions)
		st.RangesFailing, st.MaxStreak = failing, longest
	})
}

// outcomeCancelled is how a request ends that nobody waits for any more: no failure.
const outcomeCancelled = "cancelled"

// cancel ends a request whose client has gone.
func (s *Scheduler) cancel(j *job) {
	if j.phase != phaseQueued {
		s.logFinish(j, outcomeCancelled, "")
	}
	s.count.add(func(st *Stats) { st.Cancelled++ })
	s.end(j, Event{Kind: EventError, Err: context.Cause(j.ctx)}, outcomeCancelled)
}

// end sends the last event of a request.
func (s *Scheduler) end(j *job, e Event, outcome string) {
	j.phase = phaseDone
	j.unwatch()
	s.count.add(func(st *Stats) { st.Requests[outcome]++ })
	j.out.put(e)
}

// oneLine makes an error text fit a log line.
func oneLine(text string) string {
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), " | ")
}
