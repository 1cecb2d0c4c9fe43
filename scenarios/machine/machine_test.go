package machine

import (
	"strings"
	"testing"
)

func TestLoad(t *testing.T) {
	total, busy, ok := parseMachine("cpu  100 1 50 800 40 2 3 4 99 0\ncpu0 1 2 3 4\n")
	if !ok || total != 1000 || busy != 160 {
		t.Errorf("total %v, busy %v, %v", total, busy, ok)
	}
	ticks, ok := parseProcess("77 (a) b) (c) S 1 77 77 0 -1 4194560 100 0 0 0 31 12 0 0 20 0 1 0")
	if !ok || ticks != 43 {
		t.Errorf("ticks %v, %v", ticks, ok)
	}
	for _, s := range []string{"", "cpu", "cpu a b c d e f g h", "intr 1 2 3 4 5 6 7 8 9"} {
		if _, _, ok := parseMachine(s); ok {
			t.Errorf("%q was understood", s)
		}
	}
	for _, s := range []string{"", ")", "1 (x) S 1 2"} {
		if _, ok := parseProcess(s); ok {
			t.Errorf("%q was understood", s)
		}
	}
	for _, tt := range []struct{ total, busy, ours, want float64 }{{1000, 500, 400, 0.1}, {1000, 100, 130, 0}, {0, 0, 0, 0}} {
		if got := othersShare(tt.total, tt.busy, tt.ours); got != tt.want {
			t.Errorf("share %v, want %v", got, tt.want)
		}
	}
}

// Without a process of ours nobody knows who the others are.
func TestOthersAreNotGuessed(t *testing.T) {
	m, warnings := Start(0).Stop()
	if m.OthersPercent != 0 {
		t.Errorf("others used %v %%", m.OthersPercent)
	}
	for _, w := range warnings {
		if strings.Contains(w, "other processes") {
			t.Errorf("warned: %s", w)
		}
	}
}

func TestClock(t *testing.T) {
	for text, want := range map[string]float64{"2400000\n": 2400, "": 0, "x": 0, "-1": 0} {
		if got := parseKHz(text); got != want {
			t.Errorf("%q is %v MHz, want %v", text, got, want)
		}
	}
	text := "processor\t: 0\ncpu MHz\t\t: 2100.000\n\nprocessor\t: 1\ncpu MHz\t\t: 3400.125\nflags : a b\ncpu MHz : fast\n"
	if got := parseCPUInfo(text); got != 3400.125 {
		t.Errorf("%v MHz", got)
	}
	w := Start(0)
	w.clock = clock{low: 1000, top: 4000}
	_, warnings := w.Stop()
	if len(warnings) != 1 || !strings.Contains(warnings[0], "MHz") {
		t.Errorf("a clock that changed by a factor of 4: %q", warnings)
	}
}

func TestBandwidth(t *testing.T) {
	if got := newBandwidth(1 << 20).Measure(); got <= 0 {
		t.Errorf("%v bytes per second", got)
	}
}

func TestWait(t *testing.T) {
	for text, want := range map[string]float64{"500 70 3\n": 70, "": -1, "1 2": -1, "1 x 2": -1, "1 -2 3": -1} {
		got, ok := parseWait(text)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q waited %v, %v", text, got, ok)
		}
	}
	if _, ok := startWait(0).percent(); ok {
		t.Error("the waiting of no process is known")
	}
}
