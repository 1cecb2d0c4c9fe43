package failpoint

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
)

// Trigger chooses among the hits of a rule. The zero value of a field does not
// restrict.
type Trigger struct {
	Nth   int     // only the n-th counted hit; with Every the first one
	Every int     // every k-th counted hit
	Times int     // at most so many fires
	Prob  float64 // each counted hit with this probability ...
	Seed  uint64  // ... drawn from a generator with this seed
}

// TriggerKeys are the keys that Set knows.
var TriggerKeys = []string{"every", "nth", "prob", "times"}

// Set sets the trigger that a key names. Every without a value is every=1.
func (t *Trigger) Set(key, value string) (err error) {
	switch key {
	case "nth":
		t.Nth, err = positive(key, value)
	case "every":
		t.Every, err = positive(key, value)
	case "times":
		t.Times, err = positive(key, value)
	case "prob":
		p, seed, hasSeed := strings.Cut(value, ",")
		if t.Prob, err = strconv.ParseFloat(p, 64); err != nil || !(t.Prob > 0 && t.Prob <= 1) {
			return fmt.Errorf("prob=%s: want a probability above 0, at most 1", value)
		}
		if hasSeed {
			if t.Seed, err = strconv.ParseUint(seed, 10, 64); err != nil {
				return fmt.Errorf("prob=%s: bad seed", value)
			}
		}
	default:
		err = fmt.Errorf("unknown key %q; known: %s", key, strings.Join(TriggerKeys, " "))
	}
	return err
}

// Check refuses triggers that say two things at once.
func (t Trigger) Check() error {
	if t.Prob > 0 && (t.Nth > 0 || t.Every > 0) {
		return fmt.Errorf("prob excludes nth and every")
	}
	return nil
}

// String prints the triggers as a rule has them, each with a colon before it.
func (t Trigger) String() string {
	var b strings.Builder
	if t.Nth > 0 {
		fmt.Fprintf(&b, ":nth=%d", t.Nth)
	}
	if t.Every == 1 {
		b.WriteString(":every")
	} else if t.Every > 1 {
		fmt.Fprintf(&b, ":every=%d", t.Every)
	}
	if t.Times > 0 {
		fmt.Fprintf(&b, ":times=%d", t.Times)
	}
	if t.Prob > 0 {
		fmt.Fprintf(&b, ":prob=%s,%d", strconv.FormatFloat(t.Prob, 'g', -1, 64), t.Seed)
	}
	return b.String()
}

// Counter counts the hits of one armed rule. It is safe for concurrent use.
type Counter struct {
	t   Trigger
	rng *rand.Rand

	mu          sync.Mutex
	hits, fired int
}

// NewCounter returns a counter at zero.
func NewCounter(t Trigger) *Counter {
	c := &Counter{t: t}
	if t.Prob > 0 {
		c.rng = rand.New(rand.NewPCG(t.Seed, 0))
	}
	return c
}

// Hit counts a hit; it returns 0 if the trigger lets it pass, else the number of
// fires so far, this one included.
func (c *Counter) Hit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hits++
	switch {
	case c.t.Times > 0 && c.fired >= c.t.Times:
		return 0
	case c.t.Nth > 0 && c.t.Every > 0:
		if c.hits < c.t.Nth || (c.hits-c.t.Nth)%c.t.Every != 0 {
			return 0
		}
	case c.t.Nth > 0 && c.hits != c.t.Nth:
		return 0
	case c.t.Every > 0 && c.hits%c.t.Every != 0:
		return 0
	case c.t.Prob > 0 && c.rng.Float64() >= c.t.Prob:
		return 0
	}
	c.fired++
	return c.fired
}

// Count returns the hits and the fires so far.
func (c *Counter) Count() (hits, fired int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.fired
}
