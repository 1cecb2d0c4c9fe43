package scheduler

import (
	"bytes"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// letters is a toy alphabet with the properties that matter: "<" and ">" are
// control tokens, and between them text is tokenised greedily from the left,
// "ab", "abc" and "cc" being tokens of their own.
type letters struct{}

const (
	idAB  = 1000
	idABC = 1001
	idCC  = 1002
)

var merged = []struct {
	text string
	id   int32
}{{"abc", idABC}, {"ab", idAB}, {"cc", idCC}}

func (letters) Control(id int32) bool { return id == '<' || id == '>' }

func (letters) EncodeCacheText(b []byte) []int32 {
	var ids []int32
	for len(b) > 0 {
		n, id := 1, int32(b[0])
		for _, m := range merged {
			if bytes.HasPrefix(b, []byte(m.text)) {
				n, id = len(m.text), m.id
				break
			}
		}
		ids, b = append(ids, id), b[n:]
	}
	return ids
}

func (letters) text(dst []byte, id int32) []byte {
	for _, m := range merged {
		if m.id == id {
			return append(dst, m.text...)
		}
	}
	return append(dst, byte(id))
}

func newTarget(text string) target {
	return target{text: []byte(text), tokens: letters{}.EncodeCacheText([]byte(text))}
}

func TestMatch(t *testing.T) {
	a, b, c := int32('a'), int32('b'), int32('c')
	open, end, x := int32('<'), int32('>'), int32('x')
	for _, tc := range []struct {
		name       string
		tokens     []int32
		sampledEnd int
		prompt     string
		want       []int32 // nil: the prompt's own
		common     int
	}{
		{"equal", []int32{open, x, end}, 0, "<x>x", nil, 3},
		{"longer than the prompt", []int32{open, x, end, x}, 0, "<x>", nil, 3},
		{"nothing in common", []int32{x}, 0, "<", nil, 0},
		{"cut inside a word", []int32{open, x, idAB}, 0, "<xabc", nil, 2},
		{"cut at a word's end", []int32{open, x, idAB}, 0, "<xabx", nil, 3},
		{"sampled and complete", []int32{open, a, b, end, x}, 0, "<ab>xx", []int32{open, a, b, end, x, x}, 5},
		{"sampled, unfinished, known", []int32{open, a, b}, 3, "<ab>x", []int32{open, a, b, end, x}, 3},
		{"sampled, unfinished, unknown", []int32{open, a, b}, 0, "<ab>x", nil, 1},
		{"sampled and went on by itself", []int32{open, a, b}, 3, "<abcx", []int32{open, a, b, c, x}, 3},
		{"sampled, then cut inside a word", []int32{open, a, b, end, x, idAB}, 0, "<ab>xabc", []int32{open, a, b, end, x, idABC}, 5},
		{"the prompt tells another answer", []int32{open, a, b, end, x}, 4, "<ax>x", nil, 2},
		{"the prompt changes the second answer", []int32{open, a, b, end, x, end, c, c}, 8, "<ab>x>x", []int32{open, a, b, end, x, end, x}, 6},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := history{sampledEnd: tc.sampledEnd}
			h.append(tc.tokens, letters{}.text)
			p := newTarget(tc.prompt)
			got, common := match(&h, p, letters{})
			want := tc.want
			if want == nil {
				want = p.tokens
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			if common != tc.common {
				t.Errorf("common %d, want %d", common, tc.common)
			}
		})
	}
}

// TestMatchIsExact: whatever a session holds, the sequence to evaluate has the
// prompt's text, starts with what is reused, and is the prompt's own tokenisation
// if nothing was sampled.
func TestMatchIsExact(t *testing.T) {
	alphabet := []rune("abcx<>")
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.SampledFrom(alphabet), 0, 12, -1)
		past, p := newTarget(text.Draw(t, "past")), newTarget(text.Draw(t, "prompt"))
		var h history
		h.append(past.tokens[:rapid.IntRange(0, len(past.tokens)).Draw(t, "cut")], letters{}.text)
		sampled := rapid.Bool().Draw(t, "sampled")
		if sampled {
			for range rapid.IntRange(0, 4).Draw(t, "n") {
				h.append([]int32{rapid.SampledFrom([]int32{'a', 'b', 'c', idAB, idABC}).Draw(t, "id")}, letters{}.text)
				h.sampledEnd = len(h.tokens)
			}
		}
		got, common := match(&h, p, letters{})
		var all []byte
		for _, id := range got {
			all = letters{}.text(all, id)
		}
		if !bytes.Equal(all, p.text) {
			t.Fatalf("evaluates %q for the prompt %q", all, p.text)
		}
		if !slices.Equal(h.tokens[:common], got[:common]) {
			t.Fatalf("reuses %v of %v for %v", common, h.tokens, got)
		}
		if !sampled && !slices.Equal(got, p.tokens) {
			t.Fatalf("nothing was sampled, yet %v is evaluated and not %v", got, p.tokens)
		}
	})
}

func TestHistoryTruncate(t *testing.T) {
	var h history
	h.append([]int32{'<', idABC, 'x'}, letters{}.text)
	h.sampledEnd = 3
	h.truncate(2)
	if string(h.text) != "<abc" || len(h.tokens) != 2 || h.textLen(2) != 4 || h.sampledEnd != 2 {
		t.Errorf("got %+v", h)
	}
	if h.truncate(0); len(h.text) != 0 || h.textLen(0) != 0 {
		t.Errorf("got %+v", h)
	}
}

func TestCommonBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 3*4096).Draw(t, "n")
		a := bytes.Repeat([]byte{1}, n)
		b := slices.Clone(a)
		want := n
		if n > 0 && rapid.Bool().Draw(t, "differ") {
			want = rapid.IntRange(0, n-1).Draw(t, "at")
			b[want] = 2
		}
		if got := commonBytes(a, b); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	})
}
