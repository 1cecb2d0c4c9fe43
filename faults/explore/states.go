package explore

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ds4/faults/errfs"
)

// State is a directory that a power cut may leave.
type State struct {
	ID    string   // a hash of its contents
	Point int      // operations of the history that had been made
	After string   // the last of them, or "the start"
	Last  bool     // the run was over: whatever it had promised is due
	Lost  []string // what of the operations had not arrived

	rank   int      // lower ones are tried first
	fate   []uint8  // how to get there: the values of what was loose at Point
	origin *History // with the operations that count
}

// String says in one line when the machine stopped.
func (s *State) String() string {
	return fmt.Sprintf("%s: power cut after operation %d, %s", s.ID, s.Point, s.After)
}

// Write makes the directory, which must not exist.
func (s *State) Write(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("explore: %w", err)
	}
	// It is built again: to keep the contents of all would take too much memory.
	m := s.origin.start.KillClone()
	for _, op := range s.origin.Ops[:s.Point] {
		if err := op.apply(m); err != nil {
			return fmt.Errorf("explore: %w", err)
		}
	}
	values := make([]int, len(s.fate))
	for i, v := range s.fate {
		values[i] = int(v)
	}
	err := m.CrashAs(values).Contents(func(name string, data []byte) error {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if data == nil {
			return os.Mkdir(file, 0o700)
		}
		return os.WriteFile(file, data, 0o600)
	})
	if err != nil {
		return fmt.Errorf("explore: %w", err)
	}
	return nil
}

// Options bound what is built.
type Options struct {
	Max    int    // directories
	Random int    // of them at random, for each moment with something loose
	Seed   uint64 // of the random ones
	// NoSync takes the operations that make something durable out of the history: a
	// disk that lies about them.
	NoSync bool
}

// Set is what was built.
type Set struct {
	States []*State
	Found  int // different directories, those beyond Options.Max included
	// Moments counts the places of the history at which something was loose and that
	// were looked at closely.
	Moments int
	// Exhausted counts the moments of which all legal directories are among those
	// found, names and contents alike.
	Exhausted int
}

// Complete says that no bound was reached: all legal directories are there.
func (s *Set) Complete() bool { return s.Found == len(s.States) && s.Exhausted == s.Moments }

// Ranks of states. Those at the end of the run are first, because more is asked of
// them; then what the order of operations leaves and the coarse losses.
const (
	rankWhole  = iota // everything arrived
	rankLast          // at the end, something lost
	rankCoarse        // in order; names without contents, contents without names; one thing lost
	rankFile          // single blocks of one file
	rankSubset        // subsets of names
	rankOrder         // in order, inside a sequence of writes
	rankRandom
)

// States builds directories from each moment of the history.
func (h *History) States(ctx context.Context, opt Options) (*Set, error) {
	b := builder{opt: opt, known: map[string]*State{}, origin: &History{start: h.start}, rng: rand.New(rand.NewPCG(opt.Seed, 0))}
	for _, op := range h.Ops {
		if !opt.NoSync || !op.syncs() {
			b.origin.Ops = append(b.origin.Ops, op)
		}
	}
	ops := b.origin.Ops
	m := h.start.KillClone()
	for i := 0; i <= len(ops); i++ {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		b.at(m, ops, i)
		if i < len(ops) {
			if err := ops[i].apply(m); err != nil {
				return nil, fmt.Errorf("%w: operation %d, %s: %w", ErrRecording, i+1, ops[i], err)
			}
		}
	}
	return b.set(), nil
}

// contents are those of a file, which are never changed in place, so that several
// directories may share them.
type contents struct {
	first *byte
	bytes int
}

// builder collects states.
type builder struct {
	opt    Options
	origin *History
	rng    *rand.Rand
	known  map[string]*State
	order  []*State                       // as they were found
	sums   map[contents][sha256.Size]byte // of one moment
	out    Set

	point int
	after string
	last  bool
}

// at builds the directories of one moment. Between two operations that make
// something durable, everything that could be lost earlier can be lost later as
// well; so the moments before such an operation, and after each change of a name,
// are looked at closely, the others for what the order of operations leaves.
func (b *builder) at(m *errfs.Mem, ops []Op, i int) {
	b.point, b.after, b.last = i, "the start", i == len(ops)
	b.sums = map[contents][sha256.Size]byte{}
	rank := rankCoarse
	if i > 0 {
		b.after = ops[i-1].String()
		if ops[i-1].Kind == Write {
			rank = rankOrder
		}
	}
	if b.last {
		rank = rankWhole
	}
	b.try(rank, m, errfs.Loose.Arrived)
	closely := b.last || ops[i].syncs() || i > 0 && !ops[i-1].syncs() && ops[i-1].Kind != Write
	loose := m.Unsynced()
	if !closely || len(loose) == 0 {
		return
	}
	b.out.Moments++
	b.coarse(m, loose)
	for _, name := range files(loose) {
		b.file(m, name)
	}
	if b.subsets(m, loose) {
		b.out.Exhausted++
	}
	for range b.opt.Random {
		b.try(rankRandom, m, func(l errfs.Loose) int { return b.rng.IntN(l.Values) })
	}
}

// coarse loses everything, all names, all contents, or one thing.
func (b *builder) coarse(m *errfs.Mem, loose errfs.Fate) {
	name := func(l errfs.Loose) bool { return l.Block < 0 }
	b.try(rankCoarse, m, func(errfs.Loose) int { return 0 })
	b.try(rankCoarse, m, func(l errfs.Loose) int { return choose(name(l), l.Arrived(), 0) })
	b.try(rankCoarse, m, func(l errfs.Loose) int { return choose(name(l), l.Arrived(), l.Hole()) })
	b.try(rankCoarse, m, func(l errfs.Loose) int { return choose(name(l), 0, l.Arrived()) })
	for _, one := range loose {
		if !name(one) {
			continue
		}
		for v := range one.Values - 1 {
			b.try(rankCoarse, m, func(l errfs.Loose) int { return choose(l.Path == one.Path && name(l), v, l.Arrived()) })
		}
		// This name arrived, with those that lead to it, and what it stands for.
		b.try(rankFile, m, func(l errfs.Loose) int {
			return choose(l.Path == one.Path || name(l) && strings.HasPrefix(one.Path, l.Path+"/"), l.Arrived(), 0)
		})
	}
}

func choose(cond bool, yes, no int) int {
	if cond {
		return yes
	}
	return no
}

// files lists the files with contents that are loose.
func files(loose errfs.Fate) []string {
	var list []string
	for _, l := range loose {
		if l.Block >= 0 && !slices.Contains(list, l.Path) {
			list = append(list, l.Path)
		}
	}
	return list
}

// file loses blocks of one file; everything else arrived.
func (b *builder) file(m *errfs.Mem, name string) {
	var blocks []errfs.Loose
	m.CrashBy(func(l errfs.Loose) int {
		if l.Path == name && l.Block >= 0 {
			blocks = append(blocks, l)
		}
		return l.Arrived()
	})
	if len(blocks) == 0 {
		return // it has lost its name since
	}
	first, middle, end := blocks[0].Block, blocks[len(blocks)/2].Block, blocks[len(blocks)-1].Block
	for _, pick := range []func(errfs.Loose) int{
		func(errfs.Loose) int { return 0 },
		errfs.Loose.Hole,
		func(l errfs.Loose) int { return choose(l.Block == first, 0, l.Arrived()) },
		func(l errfs.Loose) int { return choose(l.Block == middle, 0, l.Arrived()) },
		func(l errfs.Loose) int { return choose(l.Block == end, 0, l.Arrived()) },
		func(l errfs.Loose) int { return choose(l.Block == end, l.Torn(), l.Arrived()) },
		func(l errfs.Loose) int { return choose(l.Block < middle, l.Arrived(), 0) },
		func(l errfs.Loose) int { return choose(l.Block < middle, 0, l.Arrived()) },
	} {
		b.try(rankFile, m, func(l errfs.Loose) int {
			if l.Path == name && l.Block >= 0 {
				return pick(l)
			}
			return l.Arrived()
		})
	}
}

// maxSubsets bounds the subsets of one moment.
const maxSubsets = 64

// subsets tries every choice, if those are few, or else every choice of names
// whose contents arrived. It says whether it was every choice.
func (b *builder) subsets(m *errfs.Mem, loose errfs.Fate) (all bool) {
	n := 1
	for _, l := range loose {
		if n *= l.Values; n > maxSubsets {
			break
		}
	}
	fixed := n > maxSubsets
	var fate errfs.Fate
	for range maxSubsets {
		at := 0
		b.try(rankSubset, m, func(l errfs.Loose) int {
			if fixed && l.Block >= 0 {
				return l.Arrived()
			}
			if at == len(fate) {
				fate = append(fate, l)
				fate[at].Value = 0
			}
			at++
			return fate[at-1].Value
		})
		for len(fate) > 0 && fate[len(fate)-1].Value == fate[len(fate)-1].Values-1 {
			fate = fate[:len(fate)-1]
		}
		if len(fate) == 0 {
			return !fixed
		}
		fate[len(fate)-1].Value++
	}
	return false
}

// try keeps the directory that a choice leads to, if it was not there yet.
func (b *builder) try(rank int, m *errfs.Mem, pick func(errfs.Loose) int) {
	var lost losses
	id := b.sum(m.CrashBy(lost.note(pick)))
	s := b.known[id]
	if s == nil {
		s = &State{ID: id, rank: rankRandom + 1, origin: b.origin}
		b.known[id] = s
		b.order = append(b.order, s)
	}
	if b.last && rank != rankWhole {
		rank = rankLast
	}
	// Of several ways to get there the one that most is asked of is told.
	if rank < s.rank {
		s.Point, s.After, s.Last, s.rank, s.Lost, s.fate = b.point, b.after, b.last, rank, lost.list(), lost.values
	}
}

// sum hashes a directory. Contents that several directories of one moment share are
// hashed once.
func (b *builder) sum(disk *errfs.Mem) string {
	h := sha256.New()
	_ = disk.Contents(func(name string, data []byte) error {
		fmt.Fprintf(h, "%q", name)
		switch {
		case data == nil:
			h.Write([]byte{0})
		case len(data) == 0:
			h.Write([]byte{1})
		default:
			key := contents{&data[0], len(data)}
			sum, ok := b.sums[key]
			if !ok {
				sum = sha256.Sum256(data)
				b.sums[key] = sum
			}
			h.Write(binary.LittleEndian.AppendUint64([]byte{2}, uint64(len(data))))
			h.Write(sum[:])
		}
		return nil
	})
	const idBytes = 6
	return hex.EncodeToString(h.Sum(nil)[:idBytes])
}

// set sorts what was found and cuts it to the limit. Within a rank the states are
// taken from all over the history.
func (b *builder) set() *Set {
	place := map[*State]uint64{}
	for i, s := range b.order {
		place[s] = bits.Reverse64(uint64(i))
	}
	b.out.Found = len(b.order)
	b.out.States = b.order
	slices.SortStableFunc(b.out.States, func(x, y *State) int {
		return cmp.Or(cmp.Compare(x.rank, y.rank), cmp.Compare(place[x], place[y]))
	})
	if b.opt.Max > 0 && len(b.out.States) > b.opt.Max {
		b.out.States = b.out.States[:b.opt.Max]
	}
	return &b.out
}
