package tokenizer

import (
	"context"
	"fmt"
	"sort"
	"strings"
)

// Cache text is the byte string that stands for a token sequence when prefixes
// are compared: ordinary tokens are their bytes, a control token is CacheMark
// followed by its string, and a literal CacheMark byte, which only sampled raw
// bytes can hold because it never occurs in UTF-8, is doubled. No control token's
// string is a prefix of another's and none starts with CacheMark, so text that
// spells a control token never has the cache text of that token.

// CacheMark introduces a control token in cache text.
const CacheMark = 0xFF

// AppendCacheText appends ordinary text to a cache text.
func AppendCacheText(dst []byte, text string) []byte {
	for {
		i := strings.IndexByte(text, CacheMark)
		if i < 0 {
			return append(dst, text...)
		}
		dst = append(dst, text[:i]...)
		dst = append(dst, CacheMark, CacheMark)
		text = text[i+1:]
	}
}

// AppendCacheControl appends the control token with this string to a cache text.
func AppendCacheControl(dst []byte, token string) []byte {
	return append(append(dst, CacheMark), token...)
}

// CacheText appends the cache text of one token; nothing for an id outside the
// vocabulary. The cache text of a sequence is that of its tokens, concatenated.
func (t *Tokenizer) CacheText(dst []byte, id int32) []byte {
	if !t.valid(id) {
		return dst
	}
	if t.control[id] {
		return AppendCacheControl(dst, t.tokens[id])
	}
	for _, b := range t.Bytes(id) {
		if b == CacheMark {
			dst = append(dst, CacheMark)
		}
		dst = append(dst, b)
	}
	return dst
}

// EncodeCacheText returns the ids of a cache text, or of any suffix of one that
// starts between two tokens. Between control tokens it gives what Encode gives. A
// CacheMark that introduces nothing known is taken for the byte itself: no input
// is refused, since suffixes are compared with what they should be elsewhere.
func (t *Tokenizer) EncodeCacheText(b []byte) []int32 {
	ids, _ := t.EncodeCacheTextContext(context.Background(), b)
	return ids
}

// EncodeCacheTextContext is EncodeCacheText for texts of many megabytes, which take
// minutes: it gives up when ctx ends, with its cause as the error.
func (t *Tokenizer) EncodeCacheTextContext(ctx context.Context, b []byte) ([]int32, error) {
	if len(b) == 0 {
		return nil, nil
	}
	e := encoder{done: ctx.Done()}
	dst := make([]int32, 0, len(b)/3+1)
	t.ScanCacheText(b, func(text string, control int32) {
		if control >= 0 {
			dst = append(dst, control)
			return
		}
		dst = e.encode(t, dst, text)
	})
	if e.stopped {
		return nil, context.Cause(ctx)
	}
	return dst, nil
}

// ScanCacheText takes a cache text apart: visit is called for every stretch of
// ordinary text, unescaped and never empty (control is -1), and for every control
// token (text is its string).
func (t *Tokenizer) ScanCacheText(b []byte, visit func(text string, control int32)) {
	rest := string(b)
	var text []byte // ordinary text so far, unescaped
	flush := func() {
		if len(text) > 0 {
			visit(string(text), -1)
			text = text[:0]
		}
	}
	for {
		i := strings.IndexByte(rest, CacheMark)
		if i < 0 {
			text = append(text, rest...)
			flush()
			return
		}
		text = append(text, rest[:i]...)
		rest = rest[i+1:]
		if id := t.controlAt(rest); id >= 0 {
			flush()
			visit(t.tokens[id], id)
			rest = rest[len(t.tokens[id]):]
			continue
		}
		text = append(text, CacheMark)
		if rest != "" && rest[0] == CacheMark {
			rest = rest[1:]
		}
	}
}

// controlAt returns the control token whose string b starts with, or -1.
func (t *Tokenizer) controlAt(b string) int32 {
	if b == "" {
		return -1
	}
	// The list is sorted and no string is a prefix of another: the only candidate
	// is the last string that is not greater than b.
	list := t.controls[b[0]]
	i := sort.Search(len(list), func(i int) bool { return t.tokens[list[i]] > b })
	if i == 0 {
		return -1
	}
	id := list[i-1]
	if s := t.tokens[id]; len(s) <= len(b) && s == b[:len(s)] {
		return id
	}
	return -1
}

// indexControls sorts the control tokens and refuses one that is a prefix of
// another: their cache texts would be ambiguous.
func (t *Tokenizer) indexControls() error {
	for id, control := range t.control {
		if control {
			first := t.tokens[id][0]
			t.controls[first] = append(t.controls[first], int32(id))
		}
	}
	for _, list := range t.controls {
		sort.Slice(list, func(i, j int) bool { return t.tokens[list[i]] < t.tokens[list[j]] })
		for i := 1; i < len(list); i++ {
			short, long := list[i-1], list[i]
			if strings.HasPrefix(t.tokens[long], t.tokens[short]) {
				return fmt.Errorf("tokenizer: control token %d (%.64q) starts with control token %d (%.64q): %w",
					long, t.tokens[long], short, t.tokens[short], ErrVocabulary)
			}
		}
	}
	return nil
}
