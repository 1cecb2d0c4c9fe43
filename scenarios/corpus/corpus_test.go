package corpus

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Measurements name a corpus and a seed, not a text: this pins the text. When it
// has to change, Revision must change with it.
func TestTextIsPinned(t *testing.T) {
	want := map[string]string{
		"go-source": "e6c67f7c65bc59d3",
		"words":     "25671b3d56a3e5a2",
		"chat":      "102d1f3e15dedd44",
	}
	for name, sum := range want {
		s, err := Text(name, 7, 20_000)
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.Sum256([]byte(s))
		if got := hex.EncodeToString(h[:8]); got != sum {
			t.Errorf("%s: text of seed 7 has hash %s, want %s (revision %d)", name, got, sum, Revision)
		}
	}
}

func TestTextProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(Names()).Draw(t, "name")
		seed := rapid.Uint64().Draw(t, "seed")
		n := rapid.IntRange(1, 30_000).Draw(t, "bytes")
		a, err := Text(name, seed, n)
		if err != nil {
			t.Fatal(err)
		}
		if len(a) < n {
			t.Fatalf("%d bytes, asked for %d", len(a), n)
		}
		longer, err := Text(name, seed, 2*n)
		if err != nil || !strings.HasPrefix(longer, a) {
			t.Fatalf("a longer text of the same seed does not begin with the shorter one (%v)", err)
		}
		if other, _ := Text(name, seed+1, n); other == a && n > 200 {
			t.Fatal("another seed gives the same text")
		}
		if strings.Contains(a, "{A}") || strings.Contains(a, "{n}") {
			t.Fatal("a blank was not filled")
		}
	})
}

func TestTextRefuses(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes int
	}{{"latin", 10}, {"chat", 0}, {"chat", MaxBytes + 1}} {
		if _, err := Text(c.name, 1, c.bytes); err == nil {
			t.Errorf("Text(%q, %d) is no error", c.name, c.bytes)
		}
	}
}

func TestBeginningsDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for n := range 5000 {
		b := Beginning(n)
		words := strings.Fields(b)
		slices.Sort(words)
		if seen[b] || strings.Join(words, " ") != "a b c d e f g h k m n" {
			t.Fatalf("beginning %d is %q", n, b)
		}
		seen[b] = true
	}
}
