package cli

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"ds4/reports"
)

// unit is one repetition of one scenario.
type unit struct {
	scenario   string
	repetition int
}

// parseShard reads "2/5": the second of five parts.
func parseShard(text string) (index, count int, err error) {
	i, n, ok := strings.Cut(text, "/")
	index, err1 := strconv.Atoi(i)
	count, err2 := strconv.Atoi(n)
	if !ok || err1 != nil || err2 != nil || count < 1 || count > reports.MaxShards || index < 1 || index > count {
		return 0, 0, fmt.Errorf("%q is no part such as 2/5: from 1 to a count of at most %d", text, reports.MaxShards)
	}
	return index, count, nil
}

// units lists every repetition of the chosen scenarios.
func units(list []chosen, repeat int) []unit {
	var all []unit
	for _, c := range list {
		n := c.scenario.Passes()
		if repeat > 0 {
			n = repeat
		}
		for rep := 1; rep <= n; rep++ {
			all = append(all, unit{c.scenario.ID, rep})
		}
	}
	return all
}

// shardOf deals all units out and returns those of one shard. Each goes to the same
// shard wherever and in whatever order the scenarios are named, no two shards
// differ by more than one unit, and the repetitions of one scenario, which take about
// as long as each other, are spread: scenarios are sorted by a hash of their names,
// and their repetitions dealt in turns.
func shardOf(all []unit, index, count int) map[unit]bool {
	order := slices.Clone(all)
	slices.SortFunc(order, func(a, b unit) int {
		return cmp.Or(bytes.Compare(a.hash(), b.hash()), cmp.Compare(a.scenario, b.scenario), cmp.Compare(a.repetition, b.repetition))
	})
	mine := make(map[unit]bool)
	for i, u := range order {
		if i%count == index-1 {
			mine[u] = true
		}
	}
	return mine
}

func (u unit) hash() []byte {
	sum := sha256.Sum256([]byte(u.scenario))
	return sum[:]
}

// planHash identifies what all shards together do: the scenarios with all they
// hold, their repetitions and seeds, and the flags of the server.
func planHash(list []chosen, repeat int, seed uint64, serverArgs []string) (string, error) {
	ordered := slices.Clone(list)
	slices.SortFunc(ordered, func(a, b chosen) int { return cmp.Compare(a.scenario.ID, b.scenario.ID) })
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, c := range ordered {
		if err := enc.Encode(c.scenario); err != nil {
			return "", fmt.Errorf("scenario %s: %w", c.scenario.ID, err)
		}
	}
	if err := enc.Encode([]any{repeat, seed, serverArgs}); err != nil {
		return "", err
	}
	const length = 16 // characters; it tells plans apart, it keeps no secret
	return hex.EncodeToString(h.Sum(nil))[:length], nil
}
