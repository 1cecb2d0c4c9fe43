package turns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"ds4/reports"
)

// journal records what was done in which order.
type journal struct {
	lines []string
	alive int
	most  int
}

func (j *journal) add(format string, args ...any) {
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) options(samples, every int) Options {
	return Options{
		Samples: samples, RestartEvery: every,
		Start: func(_ context.Context, side string) (*Server, error) {
			j.alive++
			j.most = max(j.most, j.alive)
			j.add("start %s", side)
			return &Server{URL: side, Stop: func() { j.alive--; j.add("stop %s", side) }}, nil
		},
		WarmUp: func(_ context.Context, side string, _ *Server) error { j.add("warm %s", side); return nil },
		Measure: func(_ context.Context, side string, s *Server, n int) ([]reports.Result, error) {
			j.add("%s%d", s.URL, n)
			return []reports.Result{{Scenario: "s", Repetition: n}}, nil
		},
		OnResult: func(r *reports.Result) error { j.add("got %s%d", r.Side, r.Repetition); return nil },
	}
}

// measured lists the measurements in their order.
func (j *journal) measured() string {
	var out []string
	for _, l := range j.lines {
		if !strings.Contains(l, " ") {
			out = append(out, l)
		}
	}
	return strings.Join(out, " ")
}

func TestOrder(t *testing.T) {
	for _, tt := range []struct{ every, starts, alive int }{{1, 10, 1}, {2, 6, 2}, {3, 4, 2}, {5, 2, 2}, {0, 2, 2}} {
		var j journal
		if err := Run(t.Context(), j.options(5, tt.every)); err != nil {
			t.Fatal(err)
		}
		if got, want := j.measured(), "a1 b1 b2 a2 a3 b3 b4 a4 a5 b5"; got != want {
			t.Errorf("restart every %d: measured %s, want %s", tt.every, got, want)
		}
		text := strings.Join(j.lines, "\n")
		if n := strings.Count(text, "start"); n != tt.starts || strings.Count(text, "warm") != n || strings.Count(text, "stop") != n {
			t.Errorf("restart every %d: %d servers started, want %d:\n%s", tt.every, n, tt.starts, text)
		}
		if j.most != tt.alive || j.alive != 0 {
			t.Errorf("restart every %d: %d servers at once, want %d; %d left", tt.every, j.most, tt.alive, j.alive)
		}
	}
}

func TestErrorsLeaveNothing(t *testing.T) {
	broken := errors.New("broken")
	changes := map[string]func(*Options){
		"start":  func(o *Options) { o.Start = func(context.Context, string) (*Server, error) { return nil, broken } },
		"warm":   func(o *Options) { o.WarmUp = func(context.Context, string, *Server) error { return broken } },
		"result": func(o *Options) { o.OnResult = func(*reports.Result) error { return broken } },
		"measure": func(o *Options) {
			inner := o.Measure
			o.Measure = func(ctx context.Context, side string, s *Server, n int) ([]reports.Result, error) {
				if side == reports.SideB && n == 2 {
					return nil, broken
				}
				return inner(ctx, side, s, n)
			}
		},
	}
	for name, change := range changes {
		for _, every := range []int{0, 1, 2} {
			var j journal
			opt := j.options(3, every)
			change(&opt)
			if err := Run(t.Context(), opt); !errors.Is(err, broken) {
				t.Errorf("%s: %v", name, err)
			}
			if j.alive != 0 {
				t.Errorf("%s, restart every %d: %d servers are left", name, every, j.alive)
			}
		}
	}
	for _, n := range []int{0, -1, MaxSamples + 1} {
		if err := Run(t.Context(), (&journal{}).options(n, 1)); err == nil {
			t.Errorf("%d samples were accepted", n)
		}
	}
	if err := Run(t.Context(), (&journal{}).options(2, -1)); err == nil {
		t.Error("a restart after -1 measurements was accepted")
	}
}
