package tokenizer_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"ds4/runtime/gguf"
	"ds4/runtime/tokenizer"
)

func TestNewRefuses(t *testing.T) {
	with := func(extra ...string) []string { return append(alphabet(), extra...) }
	types := func(n int, last int32) []int32 {
		list := slices.Repeat([]int32{tokenizer.TypeNormal}, n)
		list[n-1] = last
		return list
	}
	for _, c := range []struct {
		name           string
		tokens, merges []string
		types          []int32
		pre            string
		is             error
		says           string
	}{
		{name: "nothing", is: tokenizer.ErrNoVocabulary, says: "no tokens"},
		{name: "too many tokens", tokens: make([]string, tokenizer.MaxTokens+1), is: tokenizer.ErrVocabulary, says: "limit 1048576"},
		{name: "too many merges", tokens: with(), merges: make([]string, tokenizer.MaxMerges+1), is: tokenizer.ErrMerges, says: "limit 1048576"},
		{name: "types of another length", tokens: with(), types: []int32{1}, is: tokenizer.ErrVocabulary, says: "1 token types for 256 tokens"},
		{name: "type out of range", tokens: with(), types: types(256, 7), is: tokenizer.ErrVocabulary, says: "token 255 has type 7"},
		{name: "type zero", tokens: with(), types: types(256, 0), is: tokenizer.ErrVocabulary, says: "token 255 has type 0"},
		{name: "other splitter", tokens: with(), pre: "llama-bpe", is: tokenizer.ErrUnsupported, says: `"llama-bpe"`},
		{name: "empty token", tokens: with(""), is: tokenizer.ErrVocabulary, says: "token 256 is empty"},
		{name: "long token", tokens: with(strings.Repeat("x", 4097)), is: tokenizer.ErrVocabulary, says: "token 256 has 4097 bytes, limit 4096"},
		{name: "bad UTF-8", tokens: with("\xff"), is: tokenizer.ErrVocabulary, says: "token 256 is not UTF-8"},
		{name: "duplicate", tokens: with("ab", "ab"), is: tokenizer.ErrVocabulary, says: "token 257 repeats token 256"},
		{name: "byte missing", tokens: alphabet()[1:], is: tokenizer.ErrVocabulary, says: "1 of 256 bytes have no token (the first is 0x00)"},
		{name: "byte is control", tokens: with(), types: types(256, 3), is: tokenizer.ErrVocabulary, says: "the first is 0xff"},
		{name: "no bytes at all", tokens: []string{"t1", "t2"}, merges: []string{"a b"}, is: tokenizer.ErrVocabulary, says: "256 of 256"},
		{name: "merge of one", tokens: with(), merges: []string{"a"}, is: tokenizer.ErrMerges, says: "merge 0"},
		{name: "merge of three", tokens: with("abc"), merges: []string{"a b c"}, is: tokenizer.ErrMerges, says: "not two tokens"},
		{name: "merge with nothing", tokens: with(), merges: []string{" a"}, is: tokenizer.ErrMerges, says: "not two tokens"},
		{name: "huge merge", tokens: with(), merges: []string{strings.Repeat("x", 9000)}, is: tokenizer.ErrMerges, says: "limit 8193"},
		{name: "unknown left", tokens: with("ab"), merges: []string{"a b", "zz a"}, is: tokenizer.ErrMerges, says: "merge 1 (\"zz a\"): its left part"},
		{name: "unknown right", tokens: with("ab"), merges: []string{"a zz"}, is: tokenizer.ErrMerges, says: "its right part"},
		{name: "unknown result", tokens: with(), merges: []string{"a b"}, is: tokenizer.ErrMerges, says: "its result"},
		{name: "merge to control", tokens: with("ab"), types: types(257, 3), merges: []string{"a b"}, is: tokenizer.ErrMerges, says: "control token 256"},
		{name: "merge to think", tokens: with("<t", "hink>", "<think>"), merges: []string{"<t hink>"}, is: tokenizer.ErrMerges, says: "control token 258"},
		{name: "repeated merge", tokens: with("ab"), merges: []string{"a b", "a b"}, is: tokenizer.ErrMerges, says: "merge 1 repeats merge 0"},
		{name: "ambiguous controls", tokens: with("<｜a", "<｜a｜>"), is: tokenizer.ErrVocabulary, says: "starts with control token 256"},
	} {
		_, err := tokenizer.New(c.tokens, c.merges, c.types, c.pre)
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that is %q and says %q", c.name, err, c.is, c.says)
		}
	}
}

func TestUserDefinedIsControl(t *testing.T) {
	tokens := append(alphabet(), "<tool>", "unused7", tokenizer.ThinkToken)
	types := slices.Repeat([]int32{tokenizer.TypeNormal}, len(tokens))
	types[256], types[257] = tokenizer.TypeUserDefined, tokenizer.TypeUnused
	tok, err := tokenizer.New(tokens, nil, types, tokenizer.PreDeepSeekV3)
	if err != nil {
		t.Fatal(err)
	}
	for id := int32(256); id < 259; id++ {
		if !tok.Control(id) {
			t.Errorf("token %d (%s) is not a control token", id, tok.Bytes(id))
		}
	}
	if tok.BOS() != -1 || tok.EOS() != -1 {
		t.Errorf("bos %d, eos %d of a vocabulary without them", tok.BOS(), tok.EOS())
	}
}

// The fingerprint depends on everything that changes ids, and on nothing else.
func TestFingerprint(t *testing.T) {
	base := append(alphabet(), "ab", "bc", "<｜x｜>")
	merges := []string{"a b", "b c"}
	sum := func(tokens, merges []string, types []int32) [32]byte {
		t.Helper()
		tok, err := tokenizer.New(tokens, merges, types, "")
		if err != nil {
			t.Fatal(err)
		}
		return tok.Fingerprint()
	}
	want := sum(base, merges, nil)
	types := slices.Repeat([]int32{tokenizer.TypeNormal}, len(base))
	types[258] = tokenizer.TypeControl
	if got := sum(slices.Clone(base), slices.Clone(merges), types); got != want {
		t.Error("equal content, other fingerprint")
	}
	swapped := slices.Clone(base)
	swapped[256], swapped[257] = swapped[257], swapped[256]
	renamed := slices.Clone(base)
	renamed[258] = "<｜y｜>"
	for name, got := range map[string][32]byte{
		"tokens swapped": sum(swapped, merges, nil), "merges swapped": sum(base, []string{"b c", "a b"}, nil),
		"merge dropped": sum(base, merges[:1], nil), "token renamed": sum(renamed, merges, nil),
		"token added": sum(append(slices.Clone(base), "cd"), merges, nil),
	} {
		if got == want {
			t.Errorf("%s: same fingerprint", name)
		}
	}
	types[257] = tokenizer.TypeControl
	if sum(base, nil, types) == sum(base, nil, nil) {
		t.Error("a token that became a control token: same fingerprint")
	}
}

func encodeGGUF(t testing.TB, w *gguf.Writer) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFromGGUF(t *testing.T) {
	file := func(set func(*gguf.Writer)) *gguf.File {
		t.Helper()
		w := gguf.NewWriter()
		set(w)
		f, err := gguf.Parse(encodeGGUF(t, w), "model.gguf")
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	const tokens, merges = "tokenizer.ggml.tokens", "tokenizer.ggml.merges"
	all := append(alphabet(), "ab", tokenizer.EOSToken)
	tok, err := tokenizer.FromGGUF(file(func(w *gguf.Writer) { // neither pre nor types nor model
		w.Set(tokens, gguf.Strings(all))
		w.Set(merges, gguf.Strings([]string{"a b"}))
	}))
	if err != nil {
		t.Fatal(err)
	}
	if got := tok.Encode("abab"); !slices.Equal(got, []int32{256, 256}) || tok.EOS() != 257 {
		t.Errorf("ids %v, eos %d", got, tok.EOS())
	}
	for _, c := range []struct {
		name, says string
		is         error
		set        func(*gguf.Writer)
	}{
		{"empty", "no tokens", tokenizer.ErrNoVocabulary, func(*gguf.Writer) {}},
		{"another model", `"llama"`, tokenizer.ErrUnsupported, func(w *gguf.Writer) { w.Set("tokenizer.ggml.model", gguf.String("llama")) }},
		{"tokens of another type", tokens, tokenizer.ErrVocabulary, func(w *gguf.Writer) { w.Set(tokens, gguf.Uint32(3)) }},
		{"type below range", "type -1", tokenizer.ErrVocabulary, func(w *gguf.Writer) {
			w.Set(tokens, gguf.Strings([]string{"a"}))
			w.Set("tokenizer.ggml.token_type", gguf.Int32s([]int32{-1}))
		}},
		{"eos outside", "is 258, the vocabulary has 258", tokenizer.ErrVocabulary, func(w *gguf.Writer) {
			w.Set(tokens, gguf.Strings(all))
			w.Set("tokenizer.ggml.eos_token_id", gguf.Uint32(258))
		}},
		{"random model", "256 of 256 bytes", tokenizer.ErrVocabulary, func(w *gguf.Writer) {
			w.Set(tokens, gguf.Strings([]string{"t0", "t1"}))
			w.Set(merges, gguf.Strings([]string{"a b"}))
		}},
	} {
		_, err := tokenizer.FromGGUF(file(c.set))
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "model.gguf") {
			t.Errorf("%s: error %v, want one that is %q and says %q", c.name, err, c.is, c.says)
		}
	}
}

// Hostile vocabularies: an error or a tokenizer that keeps its promises.
func FuzzNew(f *testing.F) {
	f.Add("ab\x00abc", "a b\x00ab c", []byte{1, 1}, "ababc")
	f.Add("<｜a｜>\x00<think>", "", []byte{3, 4}, "<think>")
	f.Fuzz(func(t *testing.T, extra, merges string, types []byte, text string) {
		if len(text) > 1<<12 {
			return
		}
		tokens := append(alphabet(), strings.Split(extra, "\x00")...)
		list := slices.Repeat([]int32{tokenizer.TypeNormal}, len(tokens))
		for i, typ := range types {
			if 256+i < len(list) {
				list[256+i] = int32(typ)
			}
		}
		tok, err := tokenizer.New(tokens, strings.Split(merges, "\x00"), list, "")
		if err != nil {
			return
		}
		ids := tok.Encode(text)
		if i := slices.IndexFunc(ids, tok.Control); i >= 0 || decode(tok, ids) != text {
			t.Fatalf("ids %v of %q", ids, text)
		}
	})
}
