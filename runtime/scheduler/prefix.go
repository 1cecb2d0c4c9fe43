package scheduler

import (
	"bytes"
	"slices"
)

// What may be reused. A stored sequence stands for a prefix of a prompt if it
// holds the prompt's own tokens, or if it holds what was sampled earlier and the
// prompt repeats as text. It may never be used merely because its text matches:
// a sequence that was cut inside a word ends with tokens that the prompt's
// tokenisation need not have, and the answer would differ from the cold one.

// history is the past of a session, or of a chain on disk.
type history struct {
	tokens []int32
	ends   []int  // ends[i] is the length of the cache text of tokens[:i+1]
	text   []byte // cache text of all tokens
	// sampledEnd is the position after the last token that was sampled, 0 if there
	// is none or if that is not known. Behind it tokenisation starts afresh.
	sampledEnd int
}

// textLen is the length of the cache text of the first n tokens.
func (h *history) textLen(n int) int {
	if n == 0 {
		return 0
	}
	return h.ends[n-1]
}

// append adds tokens; text appends the cache text of one.
func (h *history) append(tokens []int32, text func(dst []byte, id int32) []byte) {
	for _, id := range tokens {
		h.text = text(h.text, id)
		h.tokens = append(h.tokens, id)
		h.ends = append(h.ends, len(h.text))
	}
}

// A control token that was sampled where it means nothing is shown to the client as text,
// and comes back as text: its text in a history is that, without the mark. So the next
// prompt, which holds ordinary text in its place, repeats what was sampled.

// vocabulary is what telling such tokens apart needs of the tokenizer.
type vocabulary interface {
	CacheText(dst []byte, id int32) []byte
	Bytes(id int32) []byte
	Control(id int32) bool
}

// appendLike adds tokens of a prompt, or stored ones, each with the text that the prompt has in its place.
func (h *history) appendLike(tokens []int32, prompt []byte, v vocabulary) {
	h.append(tokens, func(dst []byte, id int32) []byte {
		if at := len(dst); v.Control(id) && at < len(prompt) && bytes.HasPrefix(prompt[at:], v.Bytes(id)) {
			return append(dst, v.Bytes(id)...)
		}
		return v.CacheText(dst, id)
	})
}

// reword gives the tokens at some positions, in ascending order, the text of what they
// were shown as.
func (h *history) reword(positions []int, v vocabulary) {
	from := min(positions[0], len(h.tokens))
	tokens, sampledEnd := slices.Clone(h.tokens[from:]), h.sampledEnd
	h.truncate(from)
	for i, id := range tokens {
		text := v.CacheText
		if len(positions) > 0 && positions[0] == from+i {
			positions = positions[1:]
			text = func(dst []byte, id int32) []byte { return append(dst, v.Bytes(id)...) }
		}
		h.append([]int32{id}, text)
	}
	h.sampledEnd = sampledEnd
}

// truncate forgets everything from position n on.
func (h *history) truncate(n int) {
	h.text = h.text[:h.textLen(n)]
	h.tokens, h.ends = h.tokens[:n], h.ends[:n]
	h.sampledEnd = min(h.sampledEnd, n)
}

// target is a prompt to be served.
type target struct {
	text   []byte  // cache text
	tokens []int32 // its own tokenisation
}

// alphabet is what matching needs of the tokenizer.
type alphabet interface {
	EncodeCacheText(b []byte) []int32
	Control(id int32) bool
}

// match says how much of h the prompt can continue. tokens is the sequence that
// the request should then evaluate as its prompt: the prompt's own tokens, or,
// where h holds sampled output, h's tokens up to the end of it and the
// tokenisation of the text that follows. common is the length of the prefix that
// h and tokens share.
//
// A stretch of ordinary text between control tokens is tokenised on its own, so
// a stretch of h that is complete, that the prompt repeats, and that has other
// tokens than the prompt's own, can only have been sampled. The last, incomplete
// stretch counts as sampled only up to h.sampledEnd.
func match(h *history, p target, a alphabet) (tokens []int32, common int) {
	common = commonTokens(h.tokens, p.tokens)
	if common == len(h.tokens) {
		return p.tokens, common
	}
	seam := lastSeam(h, commonBytes(h.text, p.text), a)
	if seam <= common {
		return p.tokens, common
	}
	tokens = append(tokens, h.tokens[:seam]...)
	tokens = append(tokens, a.EncodeCacheText(p.text[h.textLen(seam):])...)
	return tokens, commonTokens(h.tokens, tokens)
}

// lastSeam is the last position of h, not beyond textLen bytes of its text, at
// which tokenisation starts afresh whatever follows: after a control token, or
// where h was sampled so far.
func lastSeam(h *history, textLen int, a alphabet) int {
	for i := len(h.tokens); i > 0; i-- {
		if h.textLen(i) > textLen {
			continue
		}
		if i == h.sampledEnd || a.Control(h.tokens[i-1]) {
			return i
		}
	}
	return 0
}

func commonTokens(a, b []int32) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

func commonBytes(a, b []byte) int {
	n := min(len(a), len(b))
	const block = 4096 // bytes.Equal compares many at once
	i := 0
	for i+block <= n && bytes.Equal(a[i:i+block], b[i:i+block]) {
		i += block
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
