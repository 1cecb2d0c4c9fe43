package scheduler

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ds4/metal"
	"ds4/runtime/chat"
	"ds4/runtime/failpoint"
)

const seedText = "Internal Error (00000001:Internal Error)"

// TestFailureResetsTheSession is A2: after a device error nothing of the failed
// session is on offer.
func TestFailureResetsTheSession(t *testing.T) {
	r := newRig(t, rigOptions{faults: "at=wait,label=^graph embed tokens$,phase=prefill,chunk=3,times=1"})
	q := ask(chat.None, words(1, 200))
	f := r.bad(q)
	if f.Code != CodePrefillFailed || !f.Retryable || f.Attempt != 1 || f.Limit != 3 || len(f.Range) != 12 {
		t.Errorf("got %+v", f)
	}
	if want := "cpu prefill failed: Metal graph embed tokens failed: " + seedText; f.Message != want {
		t.Errorf("message %q, want %q", f.Message, want)
	}
	var ce *metal.CommandError
	if !errors.As(f, &ce) {
		t.Errorf("the cause is lost: %v", f.Cause)
	}
	again := r.good(q)
	if res := again.result; res.CachedTokens != 0 || res.EvaluatedTokens != res.PromptTokens || res.Source != SourceCold {
		t.Errorf("got %+v", res)
	}
	if want := cold(t, q); again.text != want.text {
		t.Errorf("got %q, cold %q", again.text, want.text)
	}
	r.log.want(`^ds4: Metal graph embed tokens failed: Internal Error \(00000001:Internal Error\)$`, 1)
	r.log.want(`^chat ctx=0\.\.\d+:\d+ gen=0 finish=error error="cpu prefill failed: .*" \d+\.\d+ s$`, 1)
	r.log.want(`src=none prompt start`, 2)
	if st := r.Stats(); st.Failures[classDevice] != 1 || st.PrefillAttempts != 2 || st.MaxStreak != 0 {
		t.Errorf("stats %+v", st)
	}
}

// TestRecoveryOff shows that the test above needs the recovery: without it the
// dead session is offered, and what is logged as cached is not there.
func TestRecoveryOff(t *testing.T) {
	r := newRig(t, rigOptions{
		faults: "at=wait,label=^graph embed tokens$,phase=prefill,chunk=3,times=1",
		config: func(c *Config) { c.Unsafe.RecoveryOff = true },
	})
	q := ask(chat.None, words(1, 200))
	r.bad(q)
	if a := r.run(q); a.err == nil && a.result.CachedTokens == 0 {
		t.Errorf("the broken mode is not broken: %+v", a.result)
	}
}

// TestLimitClearsTheContext walks the whole ladder: three failures, then 503
// without the device, a canary that fails, one that passes, and the answer.
func TestLimitClearsTheContext(t *testing.T) {
	r := newRig(t, rigOptions{faults: "at=wait,label=^graph embed tokens$,phase=prefill|canary,times=4"})
	q := ask(chat.None, words(1, 60))
	for attempt := 1; attempt <= 3; attempt++ {
		f := r.bad(q)
		want := &FailureError{Code: CodePrefillFailed, Retryable: true, Attempt: attempt}
		if attempt == 3 {
			want.Code, want.Retryable = CodeContextCleared, false
		}
		if f.Code != want.Code || f.Retryable != want.Retryable || f.Attempt != want.Attempt {
			t.Fatalf("attempt %d: %+v", attempt, f)
		}
	}
	key := rangeKeyOf(r.identity, q.Prompt.CacheText(), q.Prompt.RangeEnd)[:12]
	r.log.want(`^prefill failure limit reached range=`+key+` failures=3 action=cleared withheld=0 error="Metal .*"$`, 1)
	if h := r.Health(); h.State != HealthDegradedDevice || len(h.Reasons) == 0 || h.RetryAfter <= 0 {
		t.Errorf("health %+v", h)
	}
	var f *FailureError
	if _, err := r.Submit(t.Context(), q); !errors.As(err, &f) || f.Code != CodeDeviceUnavailable || f.RetryAfter != canaryFirst {
		t.Fatalf("got %v %+v", err, f)
	}
	if n := r.fired(0); n != 3 {
		t.Fatalf("the device was used %d times", n)
	}
	r.advance(canaryFirst)
	r.log.wait("device canary failed", 1)
	r.advance(2*canaryFirst - 1)
	if _, err := r.Submit(t.Context(), q); err == nil {
		t.Fatal("the breaker closed without a canary")
	}
	r.advance(1)
	r.log.wait("device canary passed", 1)
	a := r.good(q)
	if want := cold(t, q); a.text != want.text {
		t.Errorf("got %q, cold %q", a.text, want.text)
	}
	if st := r.Stats(); st.LimitReached != 1 || st.BreakerOpened != 1 || st.CanaryFailed != 1 || st.CanaryPassed != 1 || st.BreakerOpen {
		t.Errorf("stats %+v", st)
	}
}

// TestBound: however long a fault lasts, a range gets at most limit attempts
// between two successes, a canary's included, and when the fault has gone a
// client needs at most limit+1 requests, refusals not counted.
func TestBound(t *testing.T) {
	q := ask(chat.None, "hello there")
	q.MaxTokens = 2
	for faults := 1; faults <= 7; faults++ {
		r := newRig(t, rigOptions{faults: fmt.Sprintf("at=wait,label=^graph embed tokens$,phase=prefill|canary,times=%d", faults)})
		requests, attempts, lifted := 0, 0, 0
		for done := false; !done; {
			ch, err := r.Submit(t.Context(), q)
			if err != nil { // the breaker: let a canary fly
				before := r.Stats()
				r.advance(canaryMost)
				r.log.wait("device canary (failed|passed)", int(before.CanaryFailed+before.CanaryPassed)+1)
				if r.Stats().CanaryPassed > before.CanaryPassed {
					attempts = 0
				}
				continue
			}
			requests++
			if r.fired(0) == faults {
				lifted++
			}
			a := collect(ch)
			done = a.err == nil
			if attempts++; !done && attempts > DefaultPrefillFailureLimit {
				t.Fatalf("%d faults: attempt %d", faults, attempts)
			}
		}
		if lifted > DefaultPrefillFailureLimit+1 {
			t.Errorf("%d faults: %d requests, %d of them after the last fault", faults, requests, lifted)
		}
		r.down()
	}
}

// TestEveryRecoverableCode: each error that the policy calls recoverable, with
// each effect on what was computed, costs at most a retry and never the answer.
func TestEveryRecoverableCode(t *testing.T) {
	q := ask(chat.None, "hello there")
	q.MaxTokens = 3
	want := cold(t, q)
	for _, code := range metal.Codes() {
		if code == metal.CodeNone || !metal.Recoverable(code) {
			continue
		}
		for i, effect := range []string{"none", "all", "partial", "scramble"} {
			if testing.Short() && int(code)%4 != i {
				continue
			}
			t.Run(fmt.Sprintf("%v/%s", code, effect), func(t *testing.T) {
				r := newRig(t, rigOptions{faults: fmt.Sprintf("at=wait,label=layer 3,phase=prefill,code=%d,effect=%s,times=1", code, effect)})
				a := r.run(q)
				if a.err != nil {
					a = r.good(q)
				}
				if r.fired(0) != 1 {
					t.Fatal("the fault did not fire")
				}
				if a.text != want.text {
					t.Errorf("got %q, cold %q", a.text, want.text)
				}
			})
		}
	}
}

// TestEncodedAgain: an error that is somebody else's fault is not even seen.
func TestEncodedAgain(t *testing.T) {
	text := `text="Internal Error (00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)"`
	for _, phase := range []string{"prefill", "decode"} {
		r := newRig(t, rigOptions{faults: "at=wait,label=layer 2,effect=scramble,times=1,phase=" + phase + "," + text})
		q := ask(chat.None, "hello there")
		a := r.good(q)
		if want := cold(t, q); a.text != want.text || a.result.Attempts != 1 {
			t.Errorf("%s: got %q %+v, cold %q", phase, a.text, a.result, want.text)
		}
		if r.fired(0) != 1 || r.Stats().DeviceRebuilds != 1 {
			t.Errorf("%s: fired %d, stats %+v", phase, r.fired(0), r.Stats())
		}
		r.down()
	}
}

func TestDecodeFailureEndsTheStream(t *testing.T) {
	r := newRig(t, rigOptions{faults: "at=wait,label=layer 0,phase=decode,n=5"})
	q := ask(chat.None, "What does strings.Cut do?")
	a := r.run(q)
	var f *FailureError
	if !errors.As(a.err, &f) || a.text == "" || !strings.HasPrefix(f.Message, "cpu decode failed while extending checkpoint: Metal ") ||
		f.Code != CodeDecodeFailed || !f.Retryable || f.Attempt != 1 {
		t.Fatalf("got %+v", a)
	}
	if again, want := r.good(q), cold(t, q); again.text != want.text || again.result.CachedTokens != 0 {
		t.Errorf("got %q %+v, cold %q", again.text, again.result, want.text)
	}
}

// TestFailureSparesOthers: a chunk that fails takes its own request down, not
// the answers that share the pass, whatever the error did to the outputs.
func TestFailureSparesOthers(t *testing.T) {
	r := newRig(t, rigOptions{faults: "at=wait,label=layer 2,phase=prefill,chunk=3,effect=scramble,times=1"})
	long := ask(chat.None, "What does strings.Cut do?")
	long.MaxTokens, long.IgnoreEOS = 60, true
	victim := ask(chat.None, words(1, 200))
	want := cold(t, long)
	ch := r.start(t.Context(), long)
	r.log.wait("prompt done", 1)
	if a := r.run(victim); a.err == nil {
		t.Error("the chunk did not fail")
	}
	if a := collect(ch); a.err != nil || a.text != want.text {
		t.Errorf("got %q %v, alone %q", a.text, a.err, want.text)
	}
}

// TestSharedDecodeFailureIsIsolated: when a pass of several answers fails, each
// is tried alone before anyone is blamed.
func TestSharedDecodeFailureIsIsolated(t *testing.T) {
	r := newRig(t, rigOptions{faults: "at=wait,label=layer 2,phase=decode,n=20,effect=scramble,times=1"})
	a, b := ask(chat.None, "What does strings.Cut do?"), ask(chat.None, "Who are you?")
	a.MaxTokens, a.IgnoreEOS, b.MaxTokens, b.IgnoreEOS = 40, true, 40, true
	wantA, wantB := cold(t, a), cold(t, b)
	chA, chB := r.start(t.Context(), a), r.start(t.Context(), b)
	gotA, gotB := collect(chA), collect(chB)
	if gotA.err != nil || gotB.err != nil || gotA.text != wantA.text || gotB.text != wantB.text {
		t.Errorf("got %q %v and %q %v", gotA.text, gotA.err, gotB.text, gotB.err)
	}
	if r.fired(0) != 1 {
		t.Error("the fault did not fire")
	}
}

// TestHang hangs the second pass, when the pace of the first is known: so the
// least limit can be far from what a busy machine takes, and is waited for once.
func TestHang(t *testing.T) {
	r := newRig(t, rigOptions{
		faults: "at=wait,label=layer 1,phase=prefill,chunk=2,hang=true,times=1",
		config: func(c *Config) { c.WatchdogMin = 2 * time.Second },
	})
	q := ask(chat.None, "hello")
	if f := r.bad(q); !errors.Is(f, errHang) || f.Code != CodePrefillFailed {
		t.Errorf("got %+v", f)
	}
	if a, want := r.good(q), cold(t, q); a.text != want.text {
		t.Errorf("got %q, cold %q", a.text, want.text)
	}
}

func TestPanicIsContained(t *testing.T) {
	for phase, code := range map[string]string{"prefill": CodePrefillFailed, "decode": CodeDecodeFailed} {
		r := newRig(t, rigOptions{faults: "at=wait,label=layer 1,panic=true,times=1,phase=" + phase})
		q := ask(chat.None, "What does strings.Cut do?")
		if f := r.bad(q); !errors.Is(f, errPanic) || f.Code != code {
			t.Errorf("%s: got %+v", phase, f)
		}
		if a, want := r.good(q), cold(t, q); a.text != want.text {
			t.Errorf("%s: got %q, cold %q", phase, a.text, want.text)
		}
		if st := r.Stats(); st.Failures[classInternal] != 1 {
			t.Errorf("%s: stats %+v", phase, st)
		}
		r.down()
	}
}

// TestPanicOutsideOfAPass goes through the net around a whole turn.
func TestPanicOutsideOfAPass(t *testing.T) {
	r := newRig(t, rigOptions{})
	arm(t, r, "session.reset=panic:times=1", "prefill.begin=err(no):times=1")
	if f := r.bad(ask(chat.None, "hello")); !errors.Is(f, errPanic) {
		t.Errorf("got %+v", f)
	}
	r.good(ask(chat.None, "hello"))
}

func arm(t *testing.T, r *rig, rules ...string) {
	t.Helper()
	var list []failpoint.Rule
	for _, text := range rules {
		rule, err := failpoint.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, rule)
	}
	if err := failpoint.Arm(list, r.log.printf); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(disarm)
}

func disarm() { failpoint.Disarm() }

func TestFailpoints(t *testing.T) {
	r := newRig(t, rigOptions{})
	arm(t, r, "prefill.begin=err("+seedText+"):times=1", "session.reset=err(no):times=1")
	q := ask(chat.None, "hello")
	if f := r.bad(q); f.Message != "cpu prefill failed: "+seedText {
		t.Errorf("got %+v", f)
	}
	r.good(q)
	r.log.want("session reset failed, session dropped", 1)
	r.log.want("fault fired", 2)
}

// TestOutage: three ranges that fail within a minute open the breaker before any
// of them reaches its limit, and what waits is refused.
func TestOutage(t *testing.T) {
	r := newRig(t, rigOptions{faults: "at=wait,label=^graph embed tokens$,phase=prefill"})
	for i := range 3 {
		if f := r.bad(ask(chat.None, words(i, 20))); f.Code != CodePrefillFailed || f.Attempt != 1 {
			t.Fatalf("range %d: %+v", i, f)
		}
	}
	var f *FailureError
	if _, err := r.Submit(t.Context(), ask(chat.None, words(9, 20))); !errors.As(err, &f) || f.Code != CodeDeviceUnavailable {
		t.Errorf("got %v", err)
	}
}

func TestDeviceFailureExit(t *testing.T) {
	fatal := make(chan error, 2)
	r := newRig(t, rigOptions{
		faults: "at=wait,phase=prefill",
		config: func(c *Config) {
			c.DeviceFailureExit = 2
			c.OnFatal = func(err error) { fatal <- err }
		},
	})
	q := ask(chat.None, "hello")
	r.bad(q)
	select {
	case err := <-fatal:
		t.Fatalf("one failure is not enough: %v", err)
	default:
	}
	r.bad(q)
	select {
	case <-fatal:
	case <-time.After(30 * time.Second):
		t.Fatal("two failures in a row were not reported")
	}
}

// TestDeviceLostForGood: an error for which the policy knows nothing inside this
// process refuses work until a canary, with a new device, passes.
func TestDeviceLostForGood(t *testing.T) {
	r := newRig(t, rigOptions{faults: "at=wait,phase=prefill,code=4,times=1"})
	q := ask(chat.None, "hello")
	if f := r.bad(q); f.Code != CodePrefillFailed && f.Code != CodeDeviceUnavailable {
		t.Errorf("got %+v", f)
	}
	if _, err := r.Submit(t.Context(), q); err == nil {
		t.Error("work was accepted")
	}
	r.advance(canaryFirst)
	r.log.wait("device canary passed", 1)
	r.good(q)
}

func TestSessionDoesNotFit(t *testing.T) {
	r := newRig(t, rigOptions{faults: `at=alloc,label=session state,n=2`})
	// The second live session cannot be made: the first one is used again.
	r.good(ask(chat.None, words(1, 20)))
	if res := r.good(ask(chat.None, words(2, 20))).result; res.Source != SourceCold {
		t.Errorf("got %+v", res)
	}
	if r.fired(0) != 1 {
		t.Error("the fault did not fire")
	}
}
