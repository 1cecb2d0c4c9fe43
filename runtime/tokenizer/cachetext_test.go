package tokenizer_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"ds4/runtime/tokenizer"
)

type item struct {
	text    string
	control int32
}

// scan takes a cache text apart.
func scan(tok *tokenizer.Tokenizer, b []byte) (items []item) {
	tok.ScanCacheText(b, func(text string, control int32) { items = append(items, item{text, control}) })
	return items
}

// meaning is what a token sequence says: stretches of bytes and control tokens.
func meaning(tok *tokenizer.Tokenizer, ids []int32) (items []item) {
	for _, id := range ids {
		switch n := len(items); {
		case tok.Control(id):
			items = append(items, item{string(tok.Bytes(id)), id})
		case n > 0 && items[n-1].control < 0:
			items[n-1].text += string(tok.Bytes(id))
		default:
			items = append(items, item{string(tok.Bytes(id)), -1})
		}
	}
	return items
}

func cacheText(tok *tokenizer.Tokenizer, ids []int32) (b []byte) {
	for _, id := range ids {
		b = tok.CacheText(b, id)
	}
	return b
}

// drawIDs draws sequences in which control tokens and the bytes that cache text
// treats specially are frequent.
func drawIDs(t *rapid.T, tok *tokenizer.Tokenizer, label string) []int32 {
	var special []int32
	for id := range int32(8) {
		special = append(special, id)
	}
	for _, s := range []string{"ÿ", "þ", "<", "ï", "½", "ľ"} { // bytes 0xFF 0xFE < and those of the bar
		if id, ok := tok.ID(s); ok {
			special = append(special, id)
		}
	}
	special = append(special, tok.Encode("<think>｜DSML｜<｜User｜>")...)
	return rapid.SliceOfN(rapid.OneOf(rapid.SampledFrom(special), rapid.Int32Range(0, int32(tok.Vocab()-1))), 0, 20).Draw(t, label)
}

// Cache text is injective in what a sequence says, and a prefix in bytes that
// ends between tokens is a prefix in meaning.
func TestCacheTextIsInjective(t *testing.T) {
	tok := openTiny(t)
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawIDs(t, tok, "a"), drawIDs(t, tok, "b")
		textA, textB := cacheText(tok, a), cacheText(tok, b)
		if got, want := scan(tok, textA), meaning(tok, a); !slices.Equal(got, want) {
			t.Fatalf("ids %v: cache text says %q, want %q", a, got, want)
		}
		if bytes.Equal(textA, textB) != slices.Equal(meaning(tok, a), meaning(tok, b)) {
			t.Fatalf("ids %v and %v: cache texts %q and %q", a, b, textA, textB)
		}
	})
}

// What a suffix is tokenised to does not depend on what came before it.
func TestEncodeCacheTextSuffix(t *testing.T) {
	tok := openTiny(t)
	rapid.Check(t, func(t *rapid.T) {
		ids := drawIDs(t, tok, "ids")
		cut := rapid.IntRange(0, len(ids)).Draw(t, "cut")
		whole := cacheText(tok, ids)
		suffix := whole[len(cacheText(tok, ids[:cut])):]
		var want []int32
		for _, it := range meaning(tok, ids[cut:]) {
			if it.control >= 0 {
				want = append(want, it.control)
				continue
			}
			want = append(want, tok.Encode(it.text)...)
		}
		got := tok.EncodeCacheText(suffix)
		if !slices.Equal(got, want) {
			t.Fatalf("suffix %q: ids %v, want %v", suffix, got, want)
		}
		if back := cacheText(tok, got); !bytes.Equal(back, suffix) {
			t.Fatalf("suffix %q comes back as %q", suffix, back)
		}
	})
}

func TestCacheTextKeepsControlsApart(t *testing.T) {
	tok := openTiny(t)
	user, _ := tok.ID(tokenizer.UserToken)
	control := tok.CacheText(nil, user)
	if want := "\xff" + tokenizer.UserToken; string(control) != want {
		t.Errorf("control token: %q, want %q", control, want)
	}
	for _, typed := range []string{tokenizer.UserToken, "\xff" + tokenizer.UserToken, "\xff\xff" + tokenizer.UserToken} {
		text := tokenizer.AppendCacheText(nil, typed)
		if bytes.HasPrefix(text, control) {
			t.Errorf("typed %q has the cache text of a control token: %q", typed, text)
		}
		ids := tok.EncodeCacheText(text)
		if slices.Contains(ids, user) || decode(tok, ids) != typed {
			t.Errorf("typed %q: ids %v", typed, ids)
		}
	}
}

// Anything is accepted: what is no cache text is text.
func FuzzEncodeCacheText(f *testing.F) {
	tok := openTiny(f)
	f.Add([]byte("\xff<think>a\xff\xff\xff"))
	f.Add([]byte("\xff\xff<think>\xff<thin"))
	f.Add([]byte("\xff" + tokenizer.UserToken + "hi\xff" + tokenizer.AssistantToken))
	f.Fuzz(func(t *testing.T, b []byte) {
		ids := tok.EncodeCacheText(b)
		back := cacheText(tok, ids)
		if again := tok.EncodeCacheText(back); !slices.Equal(again, ids) {
			t.Fatalf("%q: ids %v, through cache text %q: %v", b, ids, back, again)
		}
		if text := string(b); !strings.Contains(text, "\xff") && !bytes.Equal(back, b) {
			t.Fatalf("%q comes back as %q", b, back)
		}
		typed := tokenizer.AppendCacheText(nil, string(b))
		if got := tok.EncodeCacheText(typed); !slices.Equal(got, tok.Encode(string(b))) {
			t.Fatalf("typed %q: ids %v, want %v", b, got, tok.Encode(string(b)))
		}
	})
}

func TestEncodeWithControls(t *testing.T) {
	tok := openTiny(t)
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{
			"<think>", "</think>", tokenizer.UserToken, "<", "<thin", "｜", "k>", "a b", "\xff", "\xef\xbd", "",
		}), 0, 12).Draw(t, "parts")
		text := strings.Join(parts, "")
		got := tok.EncodeWithControls(text)
		if decode(tok, got) != text {
			t.Fatalf("%q decodes to %q", text, decode(tok, got))
		}
		for _, it := range meaning(tok, got) {
			for _, name := range []string{"<think>", "</think>", tokenizer.UserToken} {
				if it.control < 0 && strings.Contains(it.text, name) {
					t.Fatalf("%q: %s was taken for text", text, name)
				}
			}
		}
	})
}

// TestEncodeCacheTextContext: whatever the text, its encoding ends with the context.
func TestEncodeCacheTextContext(t *testing.T) {
	tok := openTiny(t)
	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	const size = 1 << 17
	for _, text := range []string{strings.Repeat("a ", size), strings.Repeat("in", size)} {
		if ids, err := tok.EncodeCacheTextContext(ctx, []byte(text)); ids != nil || err != gone {
			t.Errorf("%.4q...: %d ids: %v", text, len(ids), err)
		}
		if ids, err := tok.EncodeCacheTextContext(t.Context(), []byte(text)); !slices.Equal(ids, tok.Encode(text)) || err != nil {
			t.Errorf("%.4q...: %d ids: %v", text, len(ids), err)
		}
	}
}
