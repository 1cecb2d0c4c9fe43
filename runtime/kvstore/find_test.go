package kvstore

import (
	"math/rand/v2"
	"testing"

	"ds4/runtime/kvstore/segment"
)

// wood is an index over texts, without files.
type wood struct {
	*index
	identity [32]byte
}

func newWood() wood { return wood{newIndex(), [32]byte{3}} }

// plant adds the segment of text after parent (nil: the root). Tokens are bytes.
func (w wood) plant(parent *node, text []byte) *node {
	n := &node{textLen: len(text), textCRC: segment.Checksum(text), to: len(text), bytes: 1}
	if parent != nil {
		n.parent, n.from, n.to = parent.id, parent.to, parent.to+len(text)
	}
	n.id = segment.MakeID(w.identity, n.parent, n.from, text)
	w.add(n)
	return n
}

func randomText(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 0))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// find looks a text up and returns what was hashed for it too.
func (w wood) find(text []byte) (n *node, textLen, hashed int) {
	s := w.search(text)
	n, textLen = s.longest(segment.ID{}, 0)
	return n, textLen, s.hashed
}

func (w wood) search(text []byte) *search {
	return &search{ix: w.index, identity: w.identity, text: text, sums: sums{text: text}}
}

// TestLookupOfManyPrefixes: siblings that are all prefixes of a prompt, each of
// another length, some with children of their own, cost one pass and not one
// each.
func TestLookupOfManyPrefixes(t *testing.T) {
	w := newWood()
	text := randomText(1, 1<<20)
	var last, half *node
	const n = 1000
	for i := 1; i <= n; i++ {
		last = w.plant(nil, text[:i*len(text)/(n+1)])
		if i%10 == 0 {
			half = w.plant(last, text[last.to:last.to+(len(text)-last.to)/2])
		}
	}
	child := w.plant(last, text[last.to:])
	got, textLen, hashed := w.find(text)
	if got != child || textLen != len(text) || hashed != len(text) {
		t.Errorf("found %d bytes by hashing %d", textLen, hashed)
	}
	if got, textLen, _ = w.find(text[:len(text)-1]); got != half || textLen != half.to {
		t.Errorf("without the end found %d bytes, want %d", textLen, half.to)
	}
	if got, _, hashed = w.find(text[1:]); got != nil || hashed != 0 {
		t.Errorf("another text finds %v by hashing %d", got, hashed)
	}
}

// TestLookupOfCollisions: texts whose checksums are those of the prompt cannot
// make a lookup hash for ever, nor be taken for it.
func TestLookupOfCollisions(t *testing.T) {
	w := newWood()
	text := randomText(2, 1<<16)
	for i := range 1000 {
		end := len(text) - i
		forged := w.plant(nil, randomText(uint64(9+i), 10))
		w.remove(forged)
		forged.textLen, forged.textCRC = end, segment.Checksum(text[:end])
		w.add(forged)
	}
	if got, _, hashed := w.find(text); got != nil || hashed > maxHashing*len(text) {
		t.Errorf("found %v by hashing %d bytes", got, hashed)
	}
	true1 := w.plant(nil, text[:10])
	w.plant(true1, text[10:20])
	if got, textLen, _ := w.find(text[:30]); got == nil || textLen != 20 {
		t.Errorf("the true one is lost: %v", got)
	}
}

// TestIndexRandom compares the index, through additions and removals, with one
// that tries every chain.
func TestIndexRandom(t *testing.T) {
	const seed = 5
	rng := rand.New(rand.NewPCG(seed, 0))
	w := newWood()
	var all []*node
	texts := map[*node][]byte{} // from the root
	for step := range 3000 {
		switch {
		case rng.IntN(3) > 0 || len(all) == 0:
			var parent *node
			if len(all) > 0 && rng.IntN(3) > 0 {
				parent = all[rng.IntN(len(all))]
			}
			text := make([]byte, 1+rng.IntN(3))
			for i := range text {
				text[i] = 'a' + byte(rng.IntN(2))
			}
			before := w.nodes
			id := segment.ID{}
			from := 0
			if parent != nil {
				id, from = parent.id, parent.to
			}
			if before[segment.MakeID(w.identity, id, from, text)] != nil {
				continue
			}
			n := w.plant(parent, text)
			texts[n] = append(append([]byte(nil), texts[parent]...), text...)
			all = append(all, n)
		default:
			i := rng.IntN(len(all))
			w.remove(all[i])
			all[i] = all[len(all)-1]
			all = all[:len(all)-1]
		}
		prompt := make([]byte, rng.IntN(14))
		for i := range prompt {
			prompt[i] = 'a' + byte(rng.IntN(2))
		}
		want := 0
		for _, n := range all {
			if p := texts[n]; len(p) <= len(prompt) && string(p) == string(prompt[:len(p)]) && w.chain(segment.ID{}, n) != nil {
				want = max(want, len(p))
			}
		}
		if _, got, _ := w.find(prompt); got != want {
			t.Fatalf("seed %d, step %d: found %d bytes of %q, want %d", seed, step, got, prompt, want)
		}
		if kids := len(all); w.bytes != int64(kids) {
			t.Fatalf("seed %d, step %d: %d bytes for %d nodes", seed, step, w.bytes, kids)
		}
	}
}

// BenchmarkLookupOfManyPrefixes is a lookup of 1 MB among 10,000 siblings that
// are all prefixes of it.
func BenchmarkLookupOfManyPrefixes(b *testing.B) {
	w := newWood()
	text := randomText(1, 1<<20)
	const n = 10_000
	for i := 1; i <= n; i++ {
		w.plant(nil, text[:i*len(text)/n])
	}
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, textLen, _ := w.find(text); textLen != len(text) {
			b.Fatalf("found %d", textLen)
		}
	}
}
