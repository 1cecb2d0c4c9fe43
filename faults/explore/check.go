package explore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Finding is a directory on which the check failed.
type Finding struct {
	State *State
	Err   error
	Dir   string // where the directory is kept, as the power cut left it
}

// Tried is what Check did.
type Tried struct {
	States   int
	Findings []Finding
}

// Check runs check on the directories of a set, several at a time, each in a
// folder of its own below work, and collects those on which it fails. A second,
// untouched copy of these is kept below keep. The end of ctx ends it early, which
// is no error.
func Check(ctx context.Context, set *Set, parallel int, work, keep string, check func(ctx context.Context, dir string, s *State) error, each func(done int, s *State, err error)) (Tried, error) {
	var (
		out  Tried
		mu   sync.Mutex
		errs []error
		wg   sync.WaitGroup
		jobs = make(chan *State)
	)
	for range max(parallel, 1) {
		wg.Go(func() {
			for s := range jobs {
				dir := filepath.Join(work, s.ID)
				found, err := one(ctx, s, dir, check)
				if ctx.Err() != nil {
					continue // it says nothing about the directory
				}
				mu.Lock()
				out.States++
				if found != nil {
					f := Finding{State: s, Err: found, Dir: filepath.Join(keep, s.ID)}
					err = errors.Join(err, os.RemoveAll(f.Dir), s.Write(f.Dir)) // of an earlier run
					out.Findings = append(out.Findings, f)
				}
				errs = append(errs, err)
				if each != nil {
					each(out.States, s, found)
				}
				mu.Unlock()
			}
		})
	}
feed:
	for _, s := range set.States {
		select {
		case jobs <- s:
		case <-ctx.Done():
			break feed
		}
	}
	close(jobs)
	wg.Wait()
	return out, errors.Join(errs...)
}

// one builds a directory, checks it and removes it.
func one(ctx context.Context, s *State, dir string, check func(context.Context, string, *State) error) (found, err error) {
	if err := s.Write(dir); err != nil {
		return nil, err
	}
	found = check(ctx, dir, s)
	if err := os.RemoveAll(dir); err != nil {
		return found, fmt.Errorf("explore: %w", err)
	}
	return found, nil
}
