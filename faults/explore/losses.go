package explore

import (
	"fmt"
	"math"

	"ds4/faults/errfs"
)

// losses remembers what did not arrive, for people.
type losses struct {
	values []uint8 // of everything that was asked about
	names  []string
	files  []string // in the order of their first loss
	blocks map[string][]errfs.Loose
	loose  map[string]int // blocks of a file that were loose
}

// note remembers what a choice loses.
func (l *losses) note(pick func(errfs.Loose) int) func(errfs.Loose) int {
	l.blocks, l.loose = map[string][]errfs.Loose{}, map[string]int{}
	return func(one errfs.Loose) int {
		one.Value = min(max(pick(one), 0), one.Values-1)
		l.values = append(l.values, uint8(min(one.Value, math.MaxUint8)))
		if one.Block >= 0 {
			l.loose[one.Path]++
		}
		switch {
		case one.Value == one.Arrived():
		case one.Block < 0:
			what := "is as it was when its folder was last synced"
			if one.Value > 0 {
				what = "is as it was at some moment since its folder was synced"
			}
			l.names = append(l.names, fmt.Sprintf("name %s %s", one.Path, what))
		default:
			if len(l.blocks[one.Path]) == 0 {
				l.files = append(l.files, one.Path)
			}
			l.blocks[one.Path] = append(l.blocks[one.Path], one)
		}
		return one.Value
	}
}

// list says it, one line for each name and each file.
func (l *losses) list() []string {
	list := append([]string{}, l.names...)
	for _, name := range l.files {
		lost := l.blocks[name]
		list = append(list, fmt.Sprintf("contents of %s: %d of %d unsynced blocks of %d bytes, from byte %d on",
			name, len(lost), l.loose[name], errfs.BlockBytes, lost[0].Block*errfs.BlockBytes))
	}
	return list
}
