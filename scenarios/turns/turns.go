// Package turns measures two servers in turns: A B B A A B B A ..., so that a
// machine that gets slower or faster with time touches both alike.
//
// It promises that measurement n of A and measurement n of B are neighbours in
// time, that no more than one server runs at a time if each measurement has one of
// its own, and that every server it started has ended when it returns. It knows neither what a
// server is nor what is measured.
package turns

import (
	"context"
	"fmt"

	"ds4/reports"
)

// Server is one that answers.
type Server struct {
	URL  string
	PID  int    // 0 if it is not ours
	Stop func() // ends it
}

// Options says what to measure.
type Options struct {
	// Start starts a server of a side and returns when it answers.
	Start func(ctx context.Context, side string) (*Server, error)
	// WarmUp is called once for each started server, before it is measured.
	WarmUp func(ctx context.Context, side string, s *Server) error
	// Measure is called in turns. The repetition counts from 1 on each side.
	Measure func(ctx context.Context, side string, s *Server, repetition int) ([]reports.Result, error)
	// OnResult takes every result, with its side. An error ends the measurement.
	OnResult func(*reports.Result) error
	Samples  int // of each side
	// RestartEvery starts both servers anew after so many measurements of each: where
	// the memory of a process comes to lie stays with it for life, and two processes
	// of one program can differ by that for ever. With 1 only one server runs at a
	// time, with 0 each is started once.
	RestartEvery int
}

// MaxSamples bounds the measurements of each side.
const MaxSamples = 1000

// Run measures. What was measured before an error has gone to OnResult.
func Run(ctx context.Context, opt Options) error {
	if opt.Samples < 1 || opt.Samples > MaxSamples {
		return fmt.Errorf("turns: %d samples of each side, want 1 to %d", opt.Samples, MaxSamples)
	}
	if opt.RestartEvery < 0 {
		return fmt.Errorf("turns: a restart after %d measurements", opt.RestartEvery)
	}
	r := &runner{opt: opt, kept: make(map[string]*Server)}
	defer r.stop()
	for n := 1; n <= opt.Samples; n++ {
		first, second := reports.SideA, reports.SideB
		if n%2 == 0 {
			first, second = second, first
		}
		if every := opt.RestartEvery; every > 1 && n > 1 && (n-1)%every == 0 {
			r.stop()
		}
		for _, side := range []string{first, second} {
			if err := r.measure(ctx, side, n); err != nil {
				return fmt.Errorf("side %s, measurement %d: %w", side, n, err)
			}
		}
	}
	return nil
}

// runner holds the servers that are kept.
type runner struct {
	opt  Options
	kept map[string]*Server
}

func (r *runner) stop() {
	for side, s := range r.kept {
		s.Stop()
		delete(r.kept, side)
	}
}

func (r *runner) measure(ctx context.Context, side string, n int) error {
	s, err := r.server(ctx, side)
	if err != nil {
		return err
	}
	if r.opt.RestartEvery == 1 {
		defer s.Stop()
	}
	results, err := r.opt.Measure(ctx, side, s, n)
	if err != nil {
		return err
	}
	for i := range results {
		results[i].Side = side
		if err := r.opt.OnResult(&results[i]); err != nil {
			return err
		}
	}
	return nil
}

// server returns a warm server of a side.
func (r *runner) server(ctx context.Context, side string) (*Server, error) {
	if s := r.kept[side]; s != nil {
		return s, nil
	}
	s, err := r.opt.Start(ctx, side)
	if err != nil {
		return nil, err
	}
	if err := r.opt.WarmUp(ctx, side, s); err != nil {
		s.Stop()
		return nil, err
	}
	if r.opt.RestartEvery != 1 {
		r.kept[side] = s
	}
	return s, nil
}
