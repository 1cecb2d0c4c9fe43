package tokenizer

import (
	"fmt"

	"ds4/runtime/gguf"
)

// Metadata keys.
const (
	keyModel  = "tokenizer.ggml.model"
	keyPre    = "tokenizer.ggml.pre"
	keyTokens = "tokenizer.ggml.tokens"
	keyTypes  = "tokenizer.ggml.token_type"
	keyMerges = "tokenizer.ggml.merges"
	keyBOS    = "tokenizer.ggml.bos_token_id"
	keyEOS    = "tokenizer.ggml.eos_token_id"
)

// modelGPT2 is how GGUF files call byte-level BPE.
const modelGPT2 = "gpt2"

// FromGGUF builds the tokenizer that a model file describes. Only tokens is
// required, and only a vocabulary that cannot encode every text is refused; the
// model may still be used with token ids. BOS and EOS are those that the file
// names, else the ones of the prompt format.
func FromGGUF(f *gguf.File) (*Tokenizer, error) {
	t, err := fromGGUF(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return t, nil
}

func fromGGUF(f *gguf.File) (*Tokenizer, error) {
	model, err := optionalString(f, keyModel)
	if err != nil {
		return nil, err
	}
	if model != "" && model != modelGPT2 {
		return nil, fmt.Errorf("tokenizer: %s is %.64q, this build has %s: %w", keyModel, model, modelGPT2, ErrUnsupported)
	}
	pre, err := optionalString(f, keyPre)
	if err != nil {
		return nil, err
	}
	tokens, err := stringList(f, keyTokens, MaxTokens)
	if err != nil {
		return nil, err
	}
	merges, err := stringList(f, keyMerges, MaxMerges)
	if err != nil {
		return nil, err
	}
	types, err := tokenTypes(f, len(tokens))
	if err != nil {
		return nil, err
	}
	t, err := New(tokens, merges, types, pre)
	if err != nil {
		return nil, err
	}
	if t.bos, err = t.declaredID(f, keyBOS, t.bos); err != nil {
		return nil, err
	}
	if t.eos, err = t.declaredID(f, keyEOS, t.eos); err != nil {
		return nil, err
	}
	return t, nil
}

func optionalString(f *gguf.File, key string) (string, error) {
	v, ok := f.Value(key)
	if !ok {
		return "", nil
	}
	s, err := v.Str()
	if err != nil {
		return "", fmt.Errorf("tokenizer: %s: %w: %w", key, err, ErrVocabulary)
	}
	return s, nil
}

// stringList is nil for a missing key. The limit holds before anything is copied.
func stringList(f *gguf.File, key string, limit int) ([]string, error) {
	v, ok := f.Value(key)
	if !ok {
		return nil, nil
	}
	if v.Len() > limit {
		return nil, fmt.Errorf("tokenizer: %s has %d entries, limit %d: %w", key, v.Len(), limit, ErrVocabulary)
	}
	list, err := v.Strs()
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w: %w", key, err, ErrVocabulary)
	}
	return list, nil
}

func tokenTypes(f *gguf.File, tokens int) ([]int32, error) {
	v, ok := f.Value(keyTypes)
	if !ok {
		return nil, nil
	}
	if v.Len() != tokens {
		return nil, fmt.Errorf("tokenizer: %s has %d entries for %d tokens: %w", keyTypes, v.Len(), tokens, ErrVocabulary)
	}
	wide, err := v.Ints()
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %s: %w: %w", keyTypes, err, ErrVocabulary)
	}
	types := make([]int32, len(wide))
	for i, w := range wide {
		if w < TypeNormal || w > TypeByte { // before it is narrowed
			return nil, fmt.Errorf("tokenizer: token %d has type %d, want %d to %d: %w", i, w, TypeNormal, TypeByte, ErrVocabulary)
		}
		types[i] = int32(w)
	}
	return types, nil
}

func (t *Tokenizer) declaredID(f *gguf.File, key string, otherwise int32) (int32, error) {
	v, ok := f.Value(key)
	if !ok {
		return otherwise, nil
	}
	id, err := v.Uint()
	if err != nil {
		return 0, fmt.Errorf("tokenizer: %s: %w: %w", key, err, ErrVocabulary)
	}
	if id >= uint64(len(t.tokens)) {
		return 0, fmt.Errorf("tokenizer: %s is %d, the vocabulary has %d tokens: %w", key, id, len(t.tokens), ErrVocabulary)
	}
	return int32(id), nil
}
