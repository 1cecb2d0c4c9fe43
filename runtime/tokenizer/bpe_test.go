package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// plainMerge is the definition: apply the lowest-ranked merge anywhere, leftmost
// first, until none applies.
func plainMerge(t *Tokenizer, piece string) []int32 {
	var ids []int32
	for i := range len(piece) {
		ids = append(ids, t.byteID[piece[i]])
	}
	for {
		best, at := int32(noMerge), -1
		for i := range len(ids) - 1 {
			if r := t.rank(ids[i], ids[i+1]); r < best {
				best, at = r, i
			}
		}
		if at < 0 {
			return ids
		}
		ids = slices.Replace(ids, at, at+2, t.merges[best].id)
	}
}

// randomTokenizer has a vocabulary over the letters a, b, c in which every merge
// joins two earlier tokens.
func randomTokenizer(t testing.TB, rng *rand.Rand) *Tokenizer {
	var tokens, merges []string
	for b := range 256 {
		tokens = append(tokens, string(byteToRune[b]))
	}
	parts := []string{"a", "b", "c"}
	seen := map[string]bool{}
	for range rng.IntN(40) {
		l, r := parts[rng.IntN(len(parts))], parts[rng.IntN(len(parts))]
		if len(l+r) > 64 || seen[l+" "+r] {
			continue
		}
		seen[l+" "+r] = true
		merges = append(merges, l+" "+r)
		if !slices.Contains(tokens, l+r) {
			tokens = append(tokens, l+r)
		}
		parts = append(parts, l+r)
	}
	tok, err := New(tokens, merges, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestMergeMatchesDefinition(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		seed := rapid.Uint64().Draw(rt, "vocabulary seed")
		piece := rapid.StringOfN(rapid.SampledFrom([]rune("abc")), 1, 100, -1).Draw(rt, "piece")
		tok := randomTokenizer(t, rand.New(rand.NewPCG(seed, 0)))
		want := plainMerge(tok, piece)
		var e encoder
		if got := e.mergeLong(tok, nil, piece); !slices.Equal(got, want) {
			rt.Fatalf("heap: got %v, want %v", got, want)
		}
		if short := piece[:min(len(piece), maxShortPiece)]; len(short) < len(piece) {
			want = plainMerge(tok, short)
			piece = short
		}
		if got := tok.mergeShort(nil, piece); !slices.Equal(got, want) {
			rt.Fatalf("search: got %v, want %v", got, want)
		}
	})
}

// chainTokenizer merges a run of any byte into tokens of 2, 4, 8 .. 64 bytes: as
// many merges as a text can have.
func chainTokenizer(t testing.TB) *Tokenizer {
	var tokens, merges []string
	for b := range 256 {
		tokens = append(tokens, string(byteToRune[b]))
	}
	level := slices.Clone(tokens)
	for range 6 {
		for i, s := range level {
			merges = append(merges, s+" "+s)
			level[i] = s + s
		}
		tokens = append(tokens, level...)
	}
	tok, err := New(tokens, merges, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// A long prompt must not take quadratic time whatever it consists of: that would be
// a minute, so the limit can be generous enough for a busy machine.
func TestLongPiecesTakeLinearithmicTime(t *testing.T) {
	const (
		size  = 1 << 18
		limit = 10 * time.Second
	)
	tok := chainTokenizer(t)
	rng := rand.New(rand.NewPCG(4, 0))
	var word []byte
	for len(word) < size {
		word = append(word, strings.Repeat(string(rune('a'+rng.IntN(3))), 1+rng.IntN(100))...)
	}
	word = word[:size]
	if got, want := len(tok.Encode(strings.Repeat("a", size))), size/64; got != want {
		t.Fatalf("one letter: %d tokens, want %d: the texts below would merge nothing", got, want)
	}
	for name, text := range map[string]string{
		"one letter": strings.Repeat("a", size), "one word": string(word), "spaces": strings.Repeat(" ", size),
		"breaks": strings.Repeat(" \n", size/2), "control characters": strings.Repeat("\x00", size),
		"digits": strings.Repeat("1", size), "bad bytes": strings.Repeat("\xff", size),
		"punctuation": strings.Repeat("<", size), "marks": strings.Repeat("\u0301", size/2),
	} {
		start := time.Now()
		ids := tok.Encode(text)
		elapsed := time.Since(start)
		t.Logf("%-18s %7d tokens in %v", name, len(ids), elapsed.Round(time.Millisecond))
		if elapsed > limit {
			t.Errorf("%s: %v for %d bytes", name, elapsed, size)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	tok := randomTokenizer(f, rand.New(rand.NewPCG(5, 0)))
	f.Add("abcabc \xff\xfe\x00 日本 <think>")
	f.Fuzz(func(t *testing.T, text string) {
		var got []byte
		for _, id := range tok.Encode(text) {
			got = append(got, tok.Bytes(id)...)
		}
		if string(got) != text {
			t.Fatalf("got %q, want %q", got, text)
		}
	})
}
