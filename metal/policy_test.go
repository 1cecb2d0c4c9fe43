package metal

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// answers feeds the same error again and again, an hour apart, so that the limit
// on rebuilds does not interfere.
func answers(e *CommandError, n int) string {
	var h History
	var list []string
	for i := range n {
		var d Decision
		d, h = h.Next(e, noon.Add(time.Duration(i)*time.Hour))
		list = append(list, d.Action.String())
	}
	return strings.Join(list, " ")
}

func TestLadders(t *testing.T) {
	for _, tc := range []struct {
		code    Code
		message string // "" for the code's own
		want    string // the answers to five errors without success between
	}{
		{CodeNone, "", "C+B D+B E E E"},
		{CodeInternal, "", "C+B D+B E E E"},
		{CodeInternal, "(00000005:kIOGPUCommandBufferCallbackErrorInnocentVictim)", "A C+B D+B E E"},
		{CodeInternal, "(0000000e:Internal Error)", "A A A C+B D+B"},
		{CodeInternal, "(00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)", "E E E E E"},
		{CodeInternal, "no number", "C+B D+B E E E"},
		{CodeTimeout, "", "C+B E E E E"},
		{CodePageFault, "", "C+B fail fail fail fail"},
		{CodeAccessRevoked, "", "E E E E E"},
		{CodeAccessRevoked, "no number", "E E E E E"},
		{CodeNotPermitted, "", "fail fail fail fail fail"},
		{CodeOutOfMemory, "", "B+A fail fail fail fail"},
		{CodeInvalidResource, "", "C+B fail fail fail fail"},
		{CodeMemoryless, "", "C+B D+B E E E"},
		{CodeDeviceRemoved, "", "D+B E E E E"},
		{CodeStackOverflow, "", "fail fail fail fail fail"},
		{Code(99), "", "C+B D+B E E E"},
	} {
		message := tc.message
		if message == "" {
			message = tc.code.Message()
		}
		if got := answers(NewCommandError("x", tc.code, message), 5); got != tc.want {
			t.Errorf("code %d, %q: %s, want %s", tc.code, message, got, tc.want)
		}
	}
}

func TestDecisionDetails(t *testing.T) {
	first := func(code Code, message string) Decision {
		d, _ := History{}.Next(NewCommandError("x", code, message), noon)
		return d
	}
	if d := first(CodeTimeout, ""); !d.HalveWork || d.Level() != RebuildQueue || !d.Retry() {
		t.Errorf("timeout: %+v", d)
	}
	if d := first(CodePageFault, ""); !d.CheckFile {
		t.Errorf("page fault: %+v", d)
	}
	if d := first(CodeNotPermitted, ""); !d.RefuseFallback || d.Retry() || d.Level() != 0 {
		t.Errorf("not permitted: %+v", d)
	}
	if d := first(CodeStackOverflow, ""); !d.DisableKernel || d.Retry() || d.Level() != RebuildQueue {
		t.Errorf("stack overflow: %+v", d)
	}
	if d := first(CodeDeviceRemoved, ""); d.Level() != RebuildDevice {
		t.Errorf("device removed: %+v", d)
	}
	if d := first(CodeAccessRevoked, ""); d.Level() != 0 || d.Retry() {
		t.Errorf("access revoked: %+v", d)
	}
	d, h := History{}.Next(NewCommandError("x", CodeOutOfMemory, ""), noon)
	if !d.FreeMemory || d.RefuseAdmissions || d.Level() != RebuildQueue {
		t.Errorf("out of memory: %+v", d)
	}
	if d, _ = h.Next(NewCommandError("x", CodeOutOfMemory, ""), noon); !d.RefuseAdmissions || d.Retry() {
		t.Errorf("out of memory again: %+v", d)
	}
}

// TestInteractivityWaits: each answer waits longer, within the range that helps.
func TestInteractivityWaits(t *testing.T) {
	e := NewCommandError("x", CodeInternal, "Internal Error (0000000e:Internal Error)")
	var h History
	last := time.Duration(0)
	for i := range 3 {
		var d Decision
		d, h = h.Next(e, noon)
		if d.Wait <= last || d.Wait < 200*time.Millisecond || d.Wait > 2*time.Second || !d.HalveWork {
			t.Errorf("answer %d: %+v after a wait of %v", i, d, last)
		}
		last = d.Wait
	}
}

func TestSuccessStartsAgain(t *testing.T) {
	e := NewCommandError("x", CodeTimeout, "")
	_, h := History{}.Next(e, noon)
	if d, _ := h.Success().Next(e, noon.Add(time.Minute)); d.Action != ActRebuildQueue|ActDropState {
		t.Errorf("after a success: %v", d.Action)
	}
}

func TestRebuildLimit(t *testing.T) {
	e := NewCommandError("x", CodeInternal, CodeInternal.Message())
	for _, tc := range []struct {
		gap  time.Duration
		want string
	}{
		{time.Minute, "C+B C+B C+B E E"},
		{4 * time.Minute, "C+B C+B C+B C+B C+B"}, // the fourth comes 12 minutes after the first
		{3 * time.Minute, "C+B C+B C+B E C+B"},
	} {
		var h History
		var got []string
		for i := range 5 {
			var d Decision
			d, h = h.Next(e, noon.Add(time.Duration(i)*tc.gap))
			h = h.Success()
			got = append(got, d.Action.String())
		}
		if s := strings.Join(got, " "); s != tc.want {
			t.Errorf("an error every %v: %s, want %s", tc.gap, s, tc.want)
		}
	}
}

// TestPolicyAlwaysEnds: whatever errors come without a success, the policy stops
// asking for retries soon, and rebuilds stay within the limit.
func TestPolicyAlwaysEnds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h History
		now, retries := noon, 0
		var rebuilds []time.Time
		for range 60 {
			code := rapid.SampledFrom(Codes()).Draw(t, "code")
			message := rapid.SampledFrom([]string{code.Message(), "(00000005:x)", "(0000000e:x)"}).Draw(t, "message")
			now = now.Add(time.Duration(rapid.IntRange(0, 300).Draw(t, "seconds")) * time.Second)
			var d Decision
			d, h = h.Next(NewCommandError("x", code, message), now)
			if d.Action == 0 || d.Reason == "" {
				t.Fatalf("empty decision %+v", d)
			}
			if d.Retry() {
				retries++
			}
			if d.Action&(ActRebuildQueue|ActRebuildDevice) != 0 {
				rebuilds = append(rebuilds, now)
			}
		}
		for i := MaxRebuilds; i < len(rebuilds); i++ {
			if gap := rebuilds[i].Sub(rebuilds[i-MaxRebuilds]); gap < RebuildWindow {
				t.Fatalf("%d rebuilds within %v", MaxRebuilds+1, gap)
			}
		}
		if retries > 25 { // the sum of all ladders' retrying answers, plus those that share a tail
			t.Fatalf("%d retries without one success", retries)
		}
	})
}

func TestRecoverable(t *testing.T) {
	hopeless := map[Code]bool{CodeAccessRevoked: true, CodeNotPermitted: true, CodeStackOverflow: true}
	for _, c := range append(Codes(), Code(99)) {
		if Recoverable(c) == hopeless[c] {
			t.Errorf("Recoverable(%v) = %t", c, Recoverable(c))
		}
	}
}

func TestParseIOGPU(t *testing.T) {
	for message, want := range map[string]uint32{
		"Internal Error (00000001:Internal Error)":                                                  1,
		"Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)":               2,
		"Insufficient Permission (to submit GPU work from background) (00000006:kIOGPUCommand)":     6,
		"Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)": 14,
		"(0000000B:x)":               11,
		"(FFFFFFFF:x)":               0xFFFFFFFF,
		"(00000001:a) (nothing)":     1,
		"(00000001:a) (00000002:b)":  2,
		"":                           0,
		"(":                          0,
		"(1:x)":                      0,
		"(00000001)":                 0,
		"(0000000g:x)":               0,
		"00000001:x":                 0,
		"(+0000001:x)":               0,
		strings.Repeat("(", 100_000): 0,
	} {
		if got := ParseIOGPU(message); got != want {
			t.Errorf("ParseIOGPU(%.80q) = %#x, want %#x", message, got, want)
		}
	}
}

func TestNewCommandError(t *testing.T) {
	e := NewCommandError("graph embed tokens", CodeInternal, CodeInternal.Message())
	if want := "Metal graph embed tokens failed: Internal Error (00000001:Internal Error)"; e.Error() != want {
		t.Errorf("got %q, want %q", e.Error(), want)
	}
	if e.IOGPU != 1 || e.Domain != ErrorDomain || e.Fatal {
		t.Errorf("got %s", e.Detail())
	}
	if !NewCommandError("x", CodeAccessRevoked, "").Fatal || !NewCommandError("x", CodeInternal, CodeAccessRevoked.Message()).Fatal {
		t.Error("ignored submissions are fatal")
	}
	var as *CommandError
	if err := error(e); !errors.As(err, &as) {
		t.Error("no CommandError")
	}
	for _, c := range Codes() {
		if c.Message() == "" || strings.HasPrefix(c.String(), "code ") {
			t.Errorf("code %d has message %q, name %q", int(c), c.Message(), c)
		}
	}
	if Code(99).String() != "code 99" || Code(99).Message() != CodeInternal.Message() {
		t.Errorf("unknown code: %v, %s", Code(99), Code(99).Message())
	}
}
