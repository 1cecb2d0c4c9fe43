package scheduler

import (
	"context"

	"ds4/runtime/chat"
	"ds4/runtime/tokenizer"
)

// longText is the length from which texts are tokenised one at a time: many at
// once would take the processors from those who wait for tokens.
const longText = 256 << 10

// longPrompts keeps prompts away that cost much and lead to nothing. Tokenising a
// megabyte takes up to two seconds.
type longPrompts struct {
	turn    chan struct{} // holds one value while a long text is tokenised
	longest int           // bytes of cache text that one token can stand for
}

func newLongPrompts(tok *tokenizer.Tokenizer) longPrompts {
	l := longPrompts{turn: make(chan struct{}, 1), longest: 1}
	var text []byte
	for id := range tok.Vocab() {
		text = tok.CacheText(text[:0], int32(id))
		l.longest = max(l.longest, len(text))
	}
	return l
}

// tokens tokenises a prompt, or says that it does not fit, without doing so where
// its length alone tells.
func (s *Scheduler) tokens(ctx context.Context, p chat.Prompt, text []byte) ([]int32, error) {
	limit := s.eng.ContextTokens()
	if least := len(text) / s.long.longest; least >= limit {
		return nil, &ContextLengthError{PromptTokens: least, ContextTokens: limit, AtLeast: true}
	}
	tokens, err := s.tokenise(ctx, p, len(text))
	if err == nil && len(tokens) >= limit {
		err = &ContextLengthError{PromptTokens: len(tokens), ContextTokens: limit}
	}
	return tokens, err
}

// tokenise waits for its turn if the text has so many bytes. The end of ctx ends the
// work, too.
func (s *Scheduler) tokenise(ctx context.Context, p chat.Prompt, bytes int) ([]int32, error) {
	if bytes > longText {
		select {
		case s.long.turn <- struct{}{}:
			defer func() { <-s.long.turn }()
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return s.tok.EncodeCacheTextContext(ctx, p.CacheText())
}
