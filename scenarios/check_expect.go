package scenarios

import (
	"fmt"
	"regexp"
	"strings"

	"ds4/faults"
)

// expects checks a list of assertions; every chat that they name must exist by
// then.
func (c *checker) expects(list []Expect, at string) error {
	for i := range list {
		e := &list[i]
		here := fmt.Sprintf("%s[%d]", at, i)
		if k := e.Kinds(); len(k) != 1 {
			return fmt.Errorf("%w: %s: want exactly one kind of assertion, got %v", ErrInvalid, here, k)
		}
		if err := c.expect(e); err != nil {
			return fmt.Errorf("%s.%s: %w", here, e.Kinds()[0], err)
		}
	}
	return nil
}

func (c *checker) expect(e *Expect) error {
	names := append([]string(nil), e.Equal...)
	var bounds *Bounds
	switch {
	case e.Outcome != nil:
		for _, w := range e.Outcome {
			o, err := faults.ParseOutcome(w)
			if err != nil {
				return fmt.Errorf("%w: %w", ErrInvalid, err)
			}
			if !o.Good() {
				return fmt.Errorf("%w: nobody wants the outcome %q", ErrInvalid, w)
			}
		}
	case e.Fired != nil:
		bounds = &e.Fired.Bounds
		if e.Fired.Fault == "" {
			return fmt.Errorf("%w: no fault", ErrInvalid)
		}
	case e.Log != nil:
		if _, err := regexp.Compile(e.Log.Matches); err != nil || e.Log.Matches == "" {
			return fmt.Errorf("%w: matches %q: want a regular expression", ErrInvalid, e.Log.Matches)
		}
	case e.Metric != nil:
		bounds = &e.Metric.Bounds
	case e.Growth != nil:
		if e.Growth.Name == "" || !c.marks[e.Growth.Since] {
			return fmt.Errorf("%w: want a name, and since a mark made before: %q", ErrInvalid, e.Growth.Since)
		}
	case e.Page != nil:
		if _, err := regexp.Compile(e.Page.Matches); err != nil || e.Page.Matches == "" || !strings.HasPrefix(e.Page.Path, "/") {
			return fmt.Errorf("%w: path %q, matches %q: want a path and a regular expression", ErrInvalid, e.Page.Path, e.Page.Matches)
		}
	case e.Error != nil:
		names = append(names, e.Error.Chat)
		if _, err := regexp.Compile(e.Error.Message); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalid, err)
		}
	case e.Faster != nil:
		names = append(names, e.Faster.Chat, e.Faster.Than)
		if e.Faster.Percent < 1 {
			return fmt.Errorf("%w: percent %d", ErrInvalid, e.Faster.Percent)
		}
	case e.Unchanged != "" && !c.keeps[e.Unchanged]:
		return fmt.Errorf("%w: nothing was kept as %q", ErrInvalid, e.Unchanged)
	case e.Equal != nil && len(e.Equal) < 2:
		return fmt.Errorf("%w: want two answers or more", ErrInvalid)
	}
	for _, cb := range []*ChatBounds{e.Retries, e.Cached, e.Restored, e.Reused, e.Evaluated, e.Keepalives} {
		if cb != nil {
			bounds = &cb.Bounds
			if cb.Chat != "" {
				names = append(names, cb.Chat)
			}
		}
	}
	for _, b := range []*Bounds{e.Quarantined, e.Segments, e.Temps, e.Markers, e.Deaths, e.DiskBytes} {
		if b != nil {
			bounds = b
		}
	}
	if bounds != nil && bounds.Empty() {
		return fmt.Errorf("%w: want exactly, at_least or at_most", ErrInvalid)
	}
	for _, n := range names {
		if !c.chats[n] {
			return fmt.Errorf("%w: no chat is named %q", ErrInvalid, n)
		}
	}
	return nil
}
