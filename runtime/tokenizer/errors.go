package tokenizer

import "errors"

var (
	// ErrNoVocabulary: the model file has no tokens or no merges to build a
	// tokenizer from. Such a model still evaluates token ids.
	ErrNoVocabulary = errors.New("no vocabulary")
	// ErrVocabulary: the token list contradicts itself or a limit: a duplicate, an
	// empty or over-long token, a byte without a token, a type out of range.
	ErrVocabulary = errors.New("bad vocabulary")
	// ErrMerges: a merge is malformed, repeated, or refers to tokens that are not there.
	ErrMerges = errors.New("bad merges")
	// ErrUnsupported: the vocabulary is of a kind that this package cannot split
	// (another tokenizer model, another pre-tokenizer).
	ErrUnsupported = errors.New("unsupported tokenizer")
)
