package run

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"ds4/scenarios"
	"ds4/scenarios/corpus"
)

const (
	// bytesPerToken is the first guess of a text's length; one more than any
	// corpus needs, for servers whose tokenizer cannot be asked.
	bytesPerToken = 4
	// sizingTries bounds the search for a text of the wanted length.
	sizingTries   = 6
	tokenizeLimit = 20 * time.Second
)

type promptKey struct {
	corpus string
	tokens int
	seed   uint64
}

// prompts makes texts of a wanted number of tokens, each once.
type prompts struct {
	server string // asked for token counts; empty: the text is long enough by a margin
	dir    string
	mu     sync.Mutex
	texts  map[promptKey]string
	broken bool // the server has no tokenize command
}

// prompts are those for the server under test.
func (p *rep) prompts() *prompts {
	if p.foreign != nil {
		return &p.r.uncounted
	}
	return &p.r.prompts
}

// text returns the user's text. seed is that of the repetition: it changes
// generated texts, unless the prompt is fixed. So does round, if it is fresh.
func (c *prompts) text(ctx context.Context, p *scenarios.Prompt, seed, round uint64) (string, error) {
	text, err := c.part(ctx, p, seed, round)
	if err != nil || p.Then == nil {
		return text, err
	}
	more, err := c.text(ctx, p.Then, seed, round)
	return text + "\n" + more, err
}

func (c *prompts) part(ctx context.Context, p *scenarios.Prompt, seed, round uint64) (string, error) {
	if p.Corpus == "" {
		return p.Text, nil
	}
	if p.Fresh {
		const spread = 999_983 // apart from those of a file and of its repetitions
		size := p.Tokens * bytesPerToken
		text, err := corpus.Text(p.Corpus, p.Seed+seed<<32+round*spread, size)
		return cutAtSpace(text, size), err
	}
	key := promptKey{p.Corpus, p.Tokens, p.Seed}
	if !p.Fixed {
		const spread = 1_000_003 // keeps the seeds of a file apart from those of its repetitions
		key.seed += seed * spread
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.texts[key]; ok {
		return t, nil
	}
	t, err := c.sized(ctx, key)
	if err == nil {
		c.texts[key] = t
	}
	return t, err
}

// sized finds a text of at least the wanted number of tokens and not much more.
func (c *prompts) sized(ctx context.Context, key promptKey) (string, error) {
	size := key.tokens * bytesPerToken
	for range sizingTries {
		text, err := corpus.Text(key.corpus, key.seed, size)
		if err != nil {
			return "", err
		}
		text = cutAtSpace(text, size)
		n, known := c.count(ctx, text)
		if !known {
			return text, nil
		}
		const slack = 8
		switch {
		case n < key.tokens:
			size = size*key.tokens/max(n, 1) + slack
		case n > key.tokens+key.tokens/50+slack:
			size = max(size*key.tokens/n+slack, 1)
		default:
			return text, nil
		}
	}
	return "", fmt.Errorf("no text of about %d tokens found in corpus %s", key.tokens, key.corpus)
}

// cutAtSpace shortens text to about size bytes, at the end of a word.
func cutAtSpace(text string, size int) string {
	if len(text) <= size {
		return text
	}
	if i := bytes.IndexAny([]byte(text[size:]), " \n"); i >= 0 {
		return text[:size+i]
	}
	return text
}

// count asks the server's own command line for the number of tokens.
func (c *prompts) count(ctx context.Context, text string) (int, bool) {
	if c.server == "" || c.broken {
		return 0, false
	}
	dir := filepath.Join(c.dir, "prompts")
	file := filepath.Join(dir, "text")
	if os.MkdirAll(dir, 0o700) != nil || os.WriteFile(file, []byte(text), 0o600) != nil {
		return 0, false
	}
	ctx, cancel := context.WithTimeout(ctx, tokenizeLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, c.server, "tokenize", "--json", "--text-file", file).Output()
	if err != nil {
		c.broken = ctx.Err() == nil
		return 0, false
	}
	var ids []int32
	if err := json.Unmarshal(out, &ids); err != nil {
		c.broken = true
		return 0, false
	}
	return len(ids), true
}
