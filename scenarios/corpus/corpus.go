// Package corpus generates prompts: as much text as asked for, the same for the
// same seed, on every machine and in every version until Revision changes.
//
// The text is assembled from small embedded files. It is meant to look like what
// people send to a coding assistant, so that token counts per byte and the reuse
// of prefixes are realistic; its content means nothing.
package corpus

import (
	_ "embed"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Revision grows when the text for a given seed changes: numbers measured with
// different revisions are not measurements of the same work.
const Revision = 1

// MaxBytes bounds one text.
const MaxBytes = 16 << 20

var (
	//go:embed go-source.txt
	goSource string
	//go:embed words.txt
	words string
	//go:embed chat.txt
	chat string
)

// Names lists the corpora: Go source, dictionary entries, small talk about both.
func Names() []string { return []string{"go-source", "words", "chat"} }

// Text returns at least minBytes bytes of the corpus, ending with a whole
// passage. Texts of one seed are prefixes of each other.
func Text(name string, seed uint64, minBytes int) (string, error) {
	if minBytes < 1 || minBytes > MaxBytes {
		return "", fmt.Errorf("corpus: %d bytes: want 1 to %d", minBytes, MaxBytes)
	}
	var source string
	switch name {
	case "go-source":
		source = goSource
	case "words":
		source = words
	case "chat":
		source = chat
	default:
		return "", fmt.Errorf("corpus: unknown corpus %q (known: %s)", name, strings.Join(Names(), ", "))
	}
	g := generator{rng: rand.New(rand.NewPCG(seed, uint64(len(name))))}
	g.passages = strings.Split(strings.TrimSpace(source), "\n%%\n")
	var b strings.Builder
	for b.Len() < minBytes {
		b.WriteString(g.next())
		b.WriteString("\n\n")
	}
	return b.String(), nil
}

// Beginning is a line that shares nothing with others: it is different for every n from 0
// up to the factorial of 11, and always the same words, since numbers would make more
// tokens here than there, and rounds would not do the same work.
func Beginning(n int) string {
	words := strings.Fields("a b c d e f g h k m n")
	out := make([]string, 0, len(words))
	for len(words) > 0 {
		i := n % len(words)
		n /= len(words)
		out = append(out, words[i])
		words = slices.Delete(words, i, i+1)
	}
	return strings.Join(out, " ")
}

type generator struct {
	rng      *rand.Rand
	passages []string
	deck     []int // passages not yet used in this round
}

// next deals passages in rounds, so that none comes again before all came once,
// and fills their blanks with words of its own choice.
func (g *generator) next() string {
	if len(g.deck) == 0 {
		g.deck = g.rng.Perm(len(g.passages))
	}
	p := g.passages[g.deck[0]]
	g.deck = g.deck[1:]
	var fill []string
	for _, blank := range []string{"A", "B", "C"} {
		w := nouns[g.rng.IntN(len(nouns))]
		fill = append(fill, "{"+blank+"}", w, "{"+strings.ToLower(blank)+"}", strings.ToLower(w))
	}
	fill = append(fill, "{n}", fmt.Sprint(g.rng.IntN(9000)+1000))
	return strings.NewReplacer(fill...).Replace(p)
}

var nouns = slices.Clip(strings.Fields(`
Account Anchor Archive Barrel Basket Beacon Border Bridge Bucket Cabin Candle Canvas Castle Chapter Circle Cluster
Column Compass Copper Corner Cotton Counter Cousin Crystal Desert Device Dinner Doctor Engine Estate Fabric Factor
Falcon Farmer Feather Figure Filter Finger Flower Forest Garden Ginger Glacier Harbor Hammer Helmet Island Jacket
Journal Kernel Kettle Ladder Lantern Letter Library Magnet Marble Market Meadow Mirror Mountain Needle Number Object
Orchard Packet Palace Parcel Pencil Pepper Pillow Planet Pocket Portal Powder Rabbit Record Ribbon River Rocket Saddle
Sample Season Shadow Signal Silver Socket Spring Stable Station Stream Summer Switch Tailor Temple Ticket Timber
Tunnel Valley Vessel Village Violin Walnut Window Winter Wizard Yellow`))
