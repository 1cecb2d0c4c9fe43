// Package tokenizer is the byte-level BPE of DeepSeek V4 models: text to token
// ids and back.
//
// It promises that Encode never produces a control token whatever the text
// holds, that decoding an encoded text gives back its bytes (invalid UTF-8
// included), and that the time to encode grows as n log n in the worst case. A
// Tokenizer is immutable: any number of goroutines may use one.
//
// It does not promise to be the tokenizer of other model families: one
// pre-tokenizer is implemented (the splitter of DeepSeek V3 and V4), written by
// hand because Go's regexp has no lookahead.
package tokenizer

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits on what a model file may declare. The published Flash vocabulary has
// 129,280 tokens and 127,741 merges; its longest token has a few hundred bytes.
const (
	MaxTokens     = 1 << 20
	MaxMerges     = 1 << 20
	MaxTokenBytes = 4096
	MaxVocabBytes = 64 << 20
)

// Token types of GGUF files (tokenizer.ggml.token_type).
const (
	TypeNormal      = 1
	TypeUnknown     = 2
	TypeControl     = 3
	TypeUserDefined = 4
	TypeUnused      = 5
	TypeByte        = 6
)

// Pre-tokenizer names that mean the same splitter.
const (
	PreJoyAI      = "joyai-llm"
	PreDeepSeekV3 = "deepseek-v3"
)

// Tokenizer converts between text and token ids.
type Tokenizer struct {
	tokens  []string         // as in the model file, by id
	control []bool           // by id
	ids     map[string]int32 // token string to id
	text    []byte           // decoded bytes of all tokens
	offset  []uint32         // token id's bytes are text[offset[id]:offset[id+1]]

	byteID [256]int32
	merges []merge
	pairs  map[uint64]int32 // pairKey to rank; rank indexes merges

	bos, eos int32
	controls [256][]int32 // control ids by first byte of their string
	sum      [32]byte
}

// merge joins two neighbouring tokens into one. Its index is its rank: lower
// ranks are applied first.
type merge struct{ left, right, id int32 }

func pairKey(left, right int32) uint64 {
	return uint64(uint32(left))<<32 | uint64(uint32(right))
}

// New builds a tokenizer from the arrays of a model file: token strings by id in
// the byte alphabet, merges ("left right") by rank, token types by id (nil: every
// token that the prompt format names or that holds a format bar is a control
// token, the rest is ordinary), and the name of the pre-tokenizer (empty: the
// one that this package has). It keeps the token strings but not the slices.
//
// Everything is checked, since model files come from strangers; errors say which
// token or merge is wrong and wrap ErrNoVocabulary, ErrVocabulary, ErrMerges or
// ErrUnsupported.
func New(tokens, merges []string, types []int32, pre string) (*Tokenizer, error) {
	if err := checkSizes(tokens, merges, types, pre); err != nil {
		return nil, err
	}
	t := &Tokenizer{
		tokens:  append([]string(nil), tokens...),
		control: make([]bool, len(tokens)),
		ids:     make(map[string]int32, len(tokens)),
		offset:  make([]uint32, 1, len(tokens)+1),
	}
	for id := range tokens {
		if err := t.addToken(int32(id), types); err != nil {
			return nil, err
		}
	}
	if err := t.indexControls(); err != nil {
		return nil, err
	}
	if err := t.indexBytes(); err != nil {
		return nil, err
	}
	if err := t.addMerges(merges); err != nil {
		return nil, err
	}
	t.bos, t.eos = t.idOr(BOSToken, -1), t.idOr(EOSToken, -1)
	t.sum = t.fingerprint()
	return t, nil
}

func checkSizes(tokens, merges []string, types []int32, pre string) error {
	switch {
	case pre != "" && pre != PreJoyAI && pre != PreDeepSeekV3:
		return fmt.Errorf("tokenizer: pre-tokenizer %.64q (this build has %s): %w", pre, PreJoyAI, ErrUnsupported)
	case len(tokens) == 0:
		return fmt.Errorf("tokenizer: no tokens: %w", ErrNoVocabulary)
	case len(tokens) > MaxTokens:
		return fmt.Errorf("tokenizer: %d tokens, limit %d: %w", len(tokens), MaxTokens, ErrVocabulary)
	case len(merges) > MaxMerges:
		return fmt.Errorf("tokenizer: %d merges, limit %d: %w", len(merges), MaxMerges, ErrMerges)
	case types != nil && len(types) != len(tokens):
		return fmt.Errorf("tokenizer: %d token types for %d tokens: %w", len(types), len(tokens), ErrVocabulary)
	}
	return nil
}

func (t *Tokenizer) addToken(id int32, types []int32) error {
	s := t.tokens[id]
	switch {
	case s == "":
		return fmt.Errorf("tokenizer: token %d is empty: %w", id, ErrVocabulary)
	case len(s) > MaxTokenBytes:
		return fmt.Errorf("tokenizer: token %d has %d bytes, limit %d: %w", id, len(s), MaxTokenBytes, ErrVocabulary)
	case !utf8.ValidString(s):
		return fmt.Errorf("tokenizer: token %d is not UTF-8: %w", id, ErrVocabulary)
	}
	if other, dup := t.ids[s]; dup {
		return fmt.Errorf("tokenizer: token %d repeats token %d (%.64q): %w", id, other, s, ErrVocabulary)
	}
	t.ids[s] = id
	typ := int32(TypeNormal)
	if types != nil {
		typ = types[id]
	} else if strings.Contains(s, formatBar) {
		typ = TypeControl
	}
	if typ < TypeNormal || typ > TypeByte {
		return fmt.Errorf("tokenizer: token %d has type %d, want %d to %d: %w", id, typ, TypeNormal, TypeByte, ErrVocabulary)
	}
	t.control[id] = typ != TypeNormal && typ != TypeByte || isFormatToken(s)
	text, ok := t.text, false
	if !t.control[id] {
		text, ok = appendDecoded(t.text, s)
	}
	if !ok { // literal
		text = append(t.text, s...)
	}
	if len(text) > MaxVocabBytes {
		return fmt.Errorf("tokenizer: the tokens up to %d have more than %d bytes: %w", id, MaxVocabBytes, ErrVocabulary)
	}
	t.text = text
	t.offset = append(t.offset, uint32(len(text)))
	return nil
}

// indexBytes finds the token of every byte. Without all 256 some text could not
// be encoded at all.
func (t *Tokenizer) indexBytes() error {
	missing, first := 0, 0
	for b := 255; b >= 0; b-- {
		id, ok := t.ids[string(byteToRune[b])]
		if !ok || t.control[id] {
			missing++
			first = b
			continue
		}
		t.byteID[b] = id
	}
	if missing > 0 {
		return fmt.Errorf("tokenizer: %d of 256 bytes have no token (the first is 0x%02x): not a byte-level vocabulary: %w",
			missing, first, ErrVocabulary)
	}
	return nil
}

func (t *Tokenizer) addMerges(merges []string) error {
	t.merges = make([]merge, 0, len(merges))
	t.pairs = make(map[uint64]int32, len(merges))
	for rank, s := range merges {
		if len(s) > 2*MaxTokenBytes+1 {
			return fmt.Errorf("tokenizer: merge %d has %d bytes, limit %d: %w", rank, len(s), 2*MaxTokenBytes+1, ErrMerges)
		}
		left, right, ok := strings.Cut(s, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return fmt.Errorf("tokenizer: merge %d (%.64q) is not two tokens with a space between: %w", rank, s, ErrMerges)
		}
		m := merge{t.idOr(left, -1), t.idOr(right, -1), t.idOr(left+right, -1)}
		for _, part := range [...]struct {
			name string
			id   int32
		}{{"left part", m.left}, {"right part", m.right}, {"result", m.id}} {
			if part.id < 0 {
				return fmt.Errorf("tokenizer: merge %d (%.64q): its %s is not a token: %w", rank, s, part.name, ErrMerges)
			}
			if t.control[part.id] {
				return fmt.Errorf("tokenizer: merge %d (%.64q): its %s is the control token %d: %w", rank, s, part.name, part.id, ErrMerges)
			}
		}
		key := pairKey(m.left, m.right)
		if other, dup := t.pairs[key]; dup {
			return fmt.Errorf("tokenizer: merge %d repeats merge %d (%.64q): %w", rank, other, s, ErrMerges)
		}
		t.pairs[key] = int32(rank)
		t.merges = append(t.merges, m)
	}
	return nil
}

func (t *Tokenizer) idOr(token string, otherwise int32) int32 {
	if id, ok := t.ids[token]; ok {
		return id
	}
	return otherwise
}

// Vocab returns the number of tokens. A model may have more logits than that:
// the rest is padding.
func (t *Tokenizer) Vocab() int { return len(t.tokens) }

// BOS returns the id of the token that starts every prompt, -1 if there is none.
func (t *Tokenizer) BOS() int32 { return t.bos }

// EOS returns the id of the token that ends a turn, -1 if there is none.
func (t *Tokenizer) EOS() int32 { return t.eos }

// ID returns the id of a token by its exact string in the model file.
func (t *Tokenizer) ID(token string) (int32, bool) {
	id, ok := t.ids[token]
	return id, ok
}

// Control reports whether id is a control token: one that Encode never produces.
// Unused and user-defined tokens count. An id outside the vocabulary is not one.
func (t *Tokenizer) Control(id int32) bool {
	return t.valid(id) && t.control[id]
}

// Bytes returns what id stands for: raw bytes, possibly part of a UTF-8 sequence,
// or the literal string of a control token; nil outside the vocabulary. The slice
// is shared: do not modify it.
func (t *Tokenizer) Bytes(id int32) []byte {
	if !t.valid(id) {
		return nil
	}
	a, b := t.offset[id], t.offset[id+1]
	return t.text[a:b:b]
}

func (t *Tokenizer) valid(id int32) bool { return id >= 0 && int(id) < len(t.tokens) }

// Fingerprint identifies what decides how text becomes ids: token strings, which
// of them are control tokens, and merges, by content. Equal fingerprints mean that
// token sequences and cache texts of one tokenizer are valid for the other.
func (t *Tokenizer) Fingerprint() [32]byte { return t.sum }
