package run

import (
	"slices"
	"strings"
	"testing"

	"ds4/reports"
)

// The timeline tells a recovery as it was: the start, the fault, the request that
// failed, the one after it, and the first good token inside of that one.
func TestTimeline(t *testing.T) {
	res := replay(t, "fails once", faulty)
	if res.Verdict != reports.Pass {
		t.Fatalf("%s: %v", res.Verdict, res.Failures)
	}
	at := func(kind, part string, from int) int {
		t.Helper()
		for i := from; i < len(res.Timeline); i++ {
			if e := res.Timeline[i]; e.Kind == kind && strings.Contains(e.Text, part) {
				return i
			}
		}
		t.Fatalf("no %s %q after event %d of %+v", kind, part, from, res.Timeline)
		return 0
	}
	killed := at(reports.EventStop, "SIGKILL", 0)
	start := at(reports.EventStart, "prefill.embed", killed)
	failed := at(reports.EventRequest, "again", start)
	fired := at(reports.EventFault, "fired prefill.embed", start)
	retry := at(reports.EventRetry, "", failed)
	again := at(reports.EventRequest, "again", retry)
	good := at(reports.EventGoodToken, "again", again)
	for _, c := range []struct {
		i       int
		outcome string
	}{{start, "ok"}, {failed, "failed"}, {again, "ok"}} {
		if e := res.Timeline[c.i]; e.Outcome != c.outcome || e.DurationMS <= 0 {
			t.Errorf("event %d is %+v, want the outcome %s and a duration", c.i, e, c.outcome)
		}
	}
	if e, r := res.Timeline[good], res.Timeline[again]; e.AtMS > r.AtMS+r.DurationMS {
		t.Errorf("the first good token came at %v, the request %+v had ended", e.AtMS, r)
	}
	if fired < start {
		t.Errorf("the fault fired at %d, before the start at %d", fired, start)
	}
	if !slices.IsSortedFunc(res.Timeline, func(a, b reports.Event) int { return int(1000 * (a.AtMS - b.AtMS)) }) {
		t.Errorf("not in the order of time: %+v", res.Timeline)
	}
	if last := res.Timeline[len(res.Timeline)-1]; last.Kind != reports.EventEnd || last.Text != string(reports.Pass) {
		t.Errorf("the last event is %+v", last)
	}
}

// A server that ends although nobody told it to is in the timeline, with how.
func TestTimelineOfADeath(t *testing.T) {
	res := replay(t, "dies", strings.Replace(faulty, "every\"]}", "every\"], supervised: 1}", 1))
	for _, e := range res.Timeline {
		if e.Kind == reports.EventDied {
			if !strings.Contains(e.Text, "exit status 9") {
				t.Errorf("%+v does not say how it ended", e)
			}
			return
		}
	}
	t.Errorf("no death in %+v", res.Timeline)
}
