package tokenizer

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/dlclark/regexp2/v2"
)

// The three passes as expressions, for an engine with lookahead.
var passes = []*regexp2.Regexp{
	regexp2.MustCompile(`\p{N}{1,3}`),
	regexp2.MustCompile(`[\u4E00-\u9FA5\u3040-\u309F\u30A0-\u30FF]+`),
	regexp2.MustCompile("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+" +
		`|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`),
}

// splitByExpression is the oracle: each pass isolates its matches within every
// piece of the pass before.
func splitByExpression(t testing.TB, text string) []string {
	var starts []int // byte offset of each rune, and the end
	for i := range text {
		starts = append(starts, i)
	}
	starts = append(starts, len(text))
	runes := []rune(text) // one U+FFFD per bad byte, as range over the string counts
	pieces := [][2]int{{0, len(runes)}}
	for _, re := range passes {
		var cut [][2]int
		for _, p := range pieces {
			found, err := re.FindAllRunesIndex(runes[p[0]:p[1]], -1)
			if err != nil {
				t.Fatal(err)
			}
			at := p[0]
			for _, m := range found {
				from, to := p[0]+m[0], p[0]+m[1]
				if from > at {
					cut = append(cut, [2]int{at, from})
				}
				cut = append(cut, [2]int{from, to})
				at = to
			}
			if at < p[1] {
				cut = append(cut, [2]int{at, p[1]})
			}
		}
		pieces = cut
	}
	var out []string
	for _, p := range pieces {
		out = append(out, text[starts[p[0]]:starts[p[1]]])
	}
	return out
}

func splitByHand(text string) []string {
	var out []string
	s := splitter{text: text}
	for {
		piece, ok := s.next()
		if !ok {
			return out
		}
		out = append(out, piece)
	}
}

func checkSplit(t *testing.T, text string) {
	t.Helper()
	got := splitByHand(text)
	if strings.Join(got, "") != text {
		t.Fatalf("pieces of %q lose text: %q", text, got)
	}
	if want := splitByExpression(t, text); !slices.Equal(got, want) {
		t.Fatalf("pieces of %q\n got %q\nwant %q", text, got, want)
	}
}

func TestSplitExamples(t *testing.T) {
	for _, c := range []struct{ text, want string }{ // pieces joined by |
		{"", ""},
		{"Hello world", "Hello| world"},
		{"    int x", "   | int| x"},
		{"a  1", "a|  |1"},
		{"12345 6", "123|45| |6"},
		{"x = y;\n\nreturn", "x| =| y|;\n\n|return"},
		{"  \n \n  x", "  \n \n| | x"},
		{"tail   ", "tail|   "},
		{"\tgo", "\tgo"},
		{"\t(", "\t|("},
		{"don't", "don|'t"},
		{"!!abc", "!!|abc"},
		{"日本語のテスト", "日本語のテスト"},
		{"ア・イ", "ア|・|イ"},
		{"a日b", "a|日|b"},
		{"e\u0301te\u0301", "e\u0301te\u0301"},
		{"\x00\x01\x02a", "\x00\x01|\x02a"},
		{"½ ²", "½| |²"},
		{"a\u00a0b", "a|\u00a0b"},
		{"🙂🙂x", "🙂🙂|x"},
		{"\xff\xfea", "\xff\xfe|a"},
		{"x\r\n\r\ny", "x|\r\n\r\n|y"},
	} {
		if got := strings.Join(splitByHand(c.text), "|"); got != c.want {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
		checkSplit(t, c.text)
	}
}

// Every neighbourhood of representatives of all classes: the decisions of the
// splitter look no further than that, except along runs.
func TestSplitNeighbours(t *testing.T) {
	alphabet := []string{
		"a", "Z", "é", "ß", "1", "٣", "½", "Ⅷ", " ", "\t", "\n", "\r", "\u00a0", "\u3000", "\u2028", "\u0085",
		"!", "$", "-", "«", "€", "・", "゛", "日", "の", "ー", "\u3040", "\u0301", "\u3099", "\x00", "\u200d", "\ue000", "\xff", "\ufffd", "🙂", "한",
	}
	third := []string{"", "a", "é", "1", " ", "\n", "\u3000", "!", "日", "\u0301", "\x00"}
	for _, a := range alphabet {
		for _, b := range alphabet {
			for _, c := range third {
				checkSplit(t, a+b+c)
			}
		}
	}
}

func TestSplitRandom(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	common := []rune("aZé1٣ \t\n\r\u00a0!$«日のー\u0301\x00\u200d🙂")
	for range 5000 {
		var b strings.Builder
		for range rng.IntN(24) {
			switch rng.IntN(8) {
			case 0:
				b.WriteRune(rune(rng.IntN(0x3200)))
			case 1:
				b.WriteRune(rune(rng.IntN(0x20000)))
			case 2:
				b.WriteByte(byte(rng.IntN(256)))
			default:
				b.WriteRune(common[rng.IntN(len(common))])
			}
		}
		checkSplit(t, b.String())
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"", "  x\n\n 12345日本a!b", "\xff\xfe\u0301\t\t(", "a\r\n \u3000\u30fb"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) > 1<<12 {
			return // the oracle backtracks
		}
		checkSplit(t, text)
	})
}
