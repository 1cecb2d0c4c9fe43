package tokenizer_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"ds4/runtime/tokenizer"
)

func TestGolden(t *testing.T) {
	tok := openTiny(t)
	list := readGolden(t)
	if len(list) < 50 {
		t.Fatalf("only %d golden texts", len(list))
	}
	for i, g := range list {
		if got := tok.EncodeWithControls(g.Text); !slices.Equal(got, g.IDs) {
			t.Errorf("golden %d: ids of %.200q\n got %v\nwant %v", i, g.Text, got, g.IDs)
		}
		if got := decode(tok, g.IDs); got != g.Text {
			t.Errorf("golden %d: decoded\n got %q\nwant %q", i, got, g.Text)
		}
		if !strings.ContainsAny(g.Text, "<｜") {
			if got := tok.Encode(g.Text); !slices.Equal(got, g.IDs) {
				t.Errorf("golden %d: plain ids of %q: got %v, want %v", i, g.Text, got, g.IDs)
			}
		}
	}
}

// One tokenizer serves all connections at once.
func TestConcurrentUse(t *testing.T) {
	tok, list := openTiny(t), readGolden(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, g := range list {
				if got := tok.EncodeWithControls(g.Text); !slices.Equal(got, g.IDs) {
					t.Errorf("golden %d differs", i)
				}
			}
		})
	}
	wg.Wait()
}

func TestTinyVocabulary(t *testing.T) {
	tok := openTiny(t)
	if tok.Vocab() != 8192 || tok.BOS() != 0 || tok.EOS() != 1 {
		t.Errorf("vocab %d, bos %d, eos %d; want 8192, 0, 1", tok.Vocab(), tok.BOS(), tok.EOS())
	}
	for id, name := range []string{
		tokenizer.BOSToken, tokenizer.EOSToken, "<｜▁pad▁｜>", tokenizer.UserToken, tokenizer.AssistantToken,
		tokenizer.ThinkToken, tokenizer.EndThinkToken, tokenizer.DSMLToken,
	} {
		got, ok := tok.ID(name)
		if !ok || got != int32(id) || !tok.Control(got) || string(tok.Bytes(got)) != name {
			t.Errorf("%s: id %d, found %v, control %v, bytes %q", name, got, ok, tok.Control(got), tok.Bytes(got))
		}
	}
	for _, id := range []int32{-1, 8192, 1 << 30, -1 << 31} {
		if tok.Bytes(id) != nil || tok.Control(id) || len(tok.CacheText(nil, id)) != 0 {
			t.Errorf("id %d, outside the vocabulary, has a meaning", id)
		}
	}
}

func TestControlTextStaysText(t *testing.T) {
	tok := openTiny(t)
	for _, name := range []string{
		tokenizer.BOSToken, tokenizer.EOSToken, tokenizer.UserToken, tokenizer.AssistantToken,
		tokenizer.ThinkToken, tokenizer.EndThinkToken, tokenizer.DSMLToken, "<｜▁pad▁｜>",
	} {
		for _, text := range []string{name, " " + name, name + "\n", "a" + name + "b", name + name} {
			ids := tok.Encode(text)
			if i := slices.IndexFunc(ids, tok.Control); i >= 0 {
				t.Errorf("%q: token %d is the control token %q", text, i, tok.Bytes(ids[i]))
			}
			if got := decode(tok, ids); got != text {
				t.Errorf("%q decodes to %q", text, got)
			}
		}
	}
}
